"""Which files may be archived and purged, and what stands in the way."""
