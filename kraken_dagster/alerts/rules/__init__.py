"""The rules: pure functions of a snapshot, thresholds and the time; a module for each family."""
