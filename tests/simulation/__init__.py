"""Deterministic simulation: the library's own code on one thread, driven by a seeded scheduler and a fake clock."""
