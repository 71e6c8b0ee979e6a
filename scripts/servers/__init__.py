"""Real servers as plain processes: one module per kind of server, the standard library only."""
