"""The rules: pure functions and frozen models, stdlib and pydantic only, `now` passed in.

No I/O and no clock belongs here. `clients/` does the I/O, `steps/` puts both together.
"""
