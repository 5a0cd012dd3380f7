"""Stage 3, processing: which settings apply to a file, its jobs, and their results."""
