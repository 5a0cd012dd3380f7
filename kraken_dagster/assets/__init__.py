"""The assets of an instrument, one module per step. A body reads: decide, do, record, return.

An asset whose step has nothing to do yields nothing and says why in the run's log.
"""
