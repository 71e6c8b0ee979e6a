"""The user's graph: nodes, the fluent flow, its validation and rendering. Pure data."""
