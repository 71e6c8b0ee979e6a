"""Acknowledgement: credit, records in flight, the tracker of finished offsets, and the commit step."""
