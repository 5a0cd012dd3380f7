"""Bruker's index and data, SQLite databases among them, read without a write."""
