"""The PostgreSQL sink: a statement per payload."""
