"""Judges a fault run by what the instruments wrote, the disks, MongoDB and the ledger of jobs."""
