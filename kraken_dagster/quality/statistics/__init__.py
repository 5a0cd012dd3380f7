"""Charts, rules and limits as pure functions of NumPy arrays."""
