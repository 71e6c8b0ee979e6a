"""PostgreSQL sink: one statement per payload."""
