"""Processes of this machine: children, local jobs, and who is still the same one."""
