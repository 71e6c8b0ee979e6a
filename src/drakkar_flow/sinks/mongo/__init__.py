"""MongoDB sink: one write per payload."""
