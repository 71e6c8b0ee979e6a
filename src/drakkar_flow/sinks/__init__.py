"""Sinks: one package per kind."""
