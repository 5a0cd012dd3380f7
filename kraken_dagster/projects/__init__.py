"""Projects and settings: what people decide about processing."""
