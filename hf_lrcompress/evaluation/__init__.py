"""Downstream tasks: their data, task adapters, trainings and scores."""
