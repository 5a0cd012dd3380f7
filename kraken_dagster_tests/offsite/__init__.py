"""The second copy, on a real S3 server."""
