"""Processing jobs: what is run, on what of a cluster, and what became of it."""
