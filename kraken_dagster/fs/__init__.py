"""Files, folders and processes, without Dagster or MongoDB."""
