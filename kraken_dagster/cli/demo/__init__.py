"""`kraken demo`."""
