"""The collection `raw_file`, one document a file, and the lists of members that outgrow it."""
