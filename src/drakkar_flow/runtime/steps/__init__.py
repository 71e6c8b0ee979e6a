"""Async and synchronous steps to which a flow is lowered, and their parts."""
