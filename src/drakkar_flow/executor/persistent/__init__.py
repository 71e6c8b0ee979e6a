"""Long-lived children that are given one task after the other."""
