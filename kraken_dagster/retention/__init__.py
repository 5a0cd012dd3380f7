"""The end of a raw file on its instrument: archived, and purged with proof."""
