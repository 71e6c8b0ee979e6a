"""Soak: a worker runs for long, and whatever it holds must not grow."""
