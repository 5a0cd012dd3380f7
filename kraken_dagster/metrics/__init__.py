"""Metrics: numbers read from the results of programs."""
