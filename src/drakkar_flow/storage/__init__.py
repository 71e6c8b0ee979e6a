"""Files of the recorder, the cache and the recovery store: directories, locks, SQLite."""
