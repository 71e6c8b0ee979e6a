"""SQLite sink: one row per payload."""
