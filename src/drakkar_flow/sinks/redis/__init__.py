"""The Redis sink: a command per payload."""
