"""Log: setup, the listener that writes lines of events, and their rendering."""
