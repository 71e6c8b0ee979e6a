"""The MongoDB sink: a write per payload."""
