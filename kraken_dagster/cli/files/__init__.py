"""`kraken files`, `metrics` and `show`: raw files, and what is known of them."""
