"""The HTTP sink: a request per payload."""
