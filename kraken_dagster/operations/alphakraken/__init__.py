"""AlphaKraken's configuration, turned into an instruments.yaml: `kraken import-alphakraken`."""
