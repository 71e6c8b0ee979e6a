"""Configuration: one schema that is also the validator and the manual.

`sections/` has the models of the YAML sections, `root.py` the whole, `loading/` reads file, environment and overrides
into it. The rest describes the schema and shows values without secrets.
"""
