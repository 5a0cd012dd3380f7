"""Alerts on the page: what is open, what was, and what people say of it."""
