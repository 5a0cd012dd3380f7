"""Reads raw files of all vendors without their libraries; figures and traces."""
