"""Surgeries: a model in, a new and smaller model out."""
