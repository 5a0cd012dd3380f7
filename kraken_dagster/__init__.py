"""Kraken on Dagster: from a mass spectrometer's disk to a verified backup and quality metrics."""
