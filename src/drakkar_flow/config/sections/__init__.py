"""Models of the sections of the YAML file, a module per topic. What a docstring says is the manual's text."""
