"""From configuration to running parts; start, drain, close."""
