"""Reads files that Kraken did not write in a child process with limits."""
