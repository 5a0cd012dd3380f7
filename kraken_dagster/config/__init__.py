"""instruments.yaml: its schema, and reading it."""
