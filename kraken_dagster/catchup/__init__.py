"""Everything that stands on an instrument and is not done, in backfills."""
