"""The laboratory's page: what people at the instruments want to know, in a browser."""
