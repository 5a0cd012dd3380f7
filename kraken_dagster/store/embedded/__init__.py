"""The MongoDB server that Kraken brings along, for trials and small laboratories."""
