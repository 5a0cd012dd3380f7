"""What programs ask of Kraken, as plain data: services in, dictionaries out. Knows no HTTP."""
