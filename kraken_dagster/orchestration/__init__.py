"""What all stages need of Dagster: partitions, run requests, events, failures."""
