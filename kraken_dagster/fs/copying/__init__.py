"""The verified copy of one file: read once, written, and proven by what its disk gives back."""
