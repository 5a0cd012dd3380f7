"""The second copy of every backup, on an S3 server: uploaded, proven, fetched back."""
