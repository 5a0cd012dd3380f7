"""Reads raw files of all vendors without their libraries; metrics and traces."""
