"""What assistants ask of Kraken, by the Model Context Protocol: tools that only read."""
