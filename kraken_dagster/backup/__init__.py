"""Stage 2, the backup of a raw file: copied, verified, read again, restored."""
