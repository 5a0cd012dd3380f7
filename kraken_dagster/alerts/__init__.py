"""Alerts: somebody is told what is wrong, once, and is told when it is over."""
