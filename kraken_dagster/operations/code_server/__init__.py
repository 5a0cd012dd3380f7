"""The one code server of `kraken up`: its place, its process, and how it loads the code anew."""
