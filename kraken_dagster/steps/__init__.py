"""The steps of a raw file's way, each a plain function: look at the state, do what is missing,
record it by compare-and-set.

No Dagster here. Assets and sensors call these functions; the simulated laboratory's tests and a
notebook can do so just as well. A step may be killed at any line and asked for again.
"""
