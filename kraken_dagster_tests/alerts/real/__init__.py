"""Alerts tried on the whole product: real parts, faults put in one after the other, every part
killed in between, and a judge of the messages that came. Docs: docs/alerts.md.
"""
