"""Raw files as they stand on a disk: names, vendors, members, times."""
