"""`kraken doctor`: what is wrong with a laboratory, and how to mend it."""
