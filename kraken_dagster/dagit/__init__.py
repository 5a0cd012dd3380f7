"""Dagit behind a guard: who may look, and who may operate."""
