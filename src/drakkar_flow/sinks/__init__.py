"""Sinks: one file per kind."""
