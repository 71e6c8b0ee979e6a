"""Metrics: specs, collectors, the listener that feeds them, and the running totals of a flow."""
