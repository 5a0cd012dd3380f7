"""Dagster's side of the clients: each resource is configuration and makes one client."""
