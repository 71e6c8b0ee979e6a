"""Folding of events to rows. Pure: no I/O, clock or thread."""
