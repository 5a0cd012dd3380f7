"""Dagster's storage made anew from MongoDB."""
