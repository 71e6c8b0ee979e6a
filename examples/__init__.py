"""Lessons, and the demo that runs the main job with nothing but Python."""
