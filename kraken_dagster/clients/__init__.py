"""I/O without Dagster: files, folders, processes, MongoDB. The rules are in `domain/`."""
