"""The workshop's own programs; run them from the root of the repository, e.g. `python -m scripts.services`."""
