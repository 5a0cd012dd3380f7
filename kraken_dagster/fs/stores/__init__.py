"""The backup store and the output: known by a marker, worked through an open handle."""
