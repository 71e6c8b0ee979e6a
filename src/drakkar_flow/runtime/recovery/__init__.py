"""The recovery store: directory, lock, identity, checks, and a read-only reader."""
