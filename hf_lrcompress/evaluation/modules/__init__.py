"""Metric modules of the library `evaluate`, loaded by their path."""
