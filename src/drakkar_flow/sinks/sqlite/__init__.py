"""The SQLite sink: a row per payload."""
