"""Loading: file, environment and overrides become layers, layers become one checked configuration.

`load.py` is the sequence. `find.py` picks the file, `yaml_file.py`, `environ.py` and `overrides.py` read layers,
`layers.py` merges them, `legacy_migration.py` moves py-drakkar's keys, `validation_errors.py` words what is wrong.
"""
