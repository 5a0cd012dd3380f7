"""What `kraken compose` writes: services, and what a run in a container of its own is given."""
