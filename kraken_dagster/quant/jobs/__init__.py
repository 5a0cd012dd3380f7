"""The jobs of the processing stage, from their record to their end on an engine."""
