"""Long-lived children that run one task after the other."""
