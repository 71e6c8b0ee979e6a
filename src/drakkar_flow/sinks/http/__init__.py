"""HTTP sink: one request per payload."""
