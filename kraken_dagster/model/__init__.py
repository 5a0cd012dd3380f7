"""The rules: pure functions and frozen models, `now` passed in. No I/O, no clock."""
