"""Keyed state: the ledgers of a process, the gate before the tracker, and the state of hooks."""
