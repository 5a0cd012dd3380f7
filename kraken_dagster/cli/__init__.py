"""The command `kraken`, one module for each group of commands."""
