"""The graph a user writes: nodes, the fluent flow, its validation and rendering. Pure data."""
