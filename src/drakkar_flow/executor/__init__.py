"""Running external programs."""
