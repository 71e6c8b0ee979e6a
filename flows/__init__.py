"""The flows this project ships; each file holds one, named `flow`."""
