"""A run's step over its raw files, one or thousands: each has events of its own."""
