"""Programs that ask by HTTP."""
