"""Flight recorder: a listener that writes what a worker does to SQLite files, and the reader of these files.

`fold/` has the pure kernels: events become rows. `recorder.py` owns the thread that writes, `recording.py` reads the
files of any number of workers.
"""
