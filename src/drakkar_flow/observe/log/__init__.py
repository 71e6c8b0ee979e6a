"""Log: setup, the listener that writes the lines of events, and their rendering."""
