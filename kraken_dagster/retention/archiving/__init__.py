"""Archiving: raw files are renamed into `Backup/` on their instrument once they are backed up."""
