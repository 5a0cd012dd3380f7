"""Numbers and columns as programs write them, and what is computed from them."""
