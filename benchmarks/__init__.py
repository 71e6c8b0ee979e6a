"""Benchmarks: each prints one JSON object and compares with a limit or a peer of the same run."""
