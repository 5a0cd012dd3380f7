"""Metrics and traces from the raw file itself: a side branch after the backup, which nothing waits
for. What parses the vendors' files is `raw_readers`.
"""
