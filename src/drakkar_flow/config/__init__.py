"""One schema that is also the validator and the manual; loading it from YAML and the environment."""
