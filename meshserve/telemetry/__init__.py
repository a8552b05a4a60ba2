"""Metrics, logs and traces: declared once, used everywhere."""
