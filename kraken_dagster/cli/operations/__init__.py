"""The commands of who runs Kraken: start it, see how it is, correct what failed."""
