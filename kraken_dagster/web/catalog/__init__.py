"""Pages of projects and settings: the same steps as `kraken project` and `kraken settings`."""
