"""Redis sink: one command per payload."""
