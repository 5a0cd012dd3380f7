"""What is recorded of processing: jobs, their metrics, and the digests of their inputs."""
