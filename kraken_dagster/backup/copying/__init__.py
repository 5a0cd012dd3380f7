"""The copy of a raw file with all of its members."""
