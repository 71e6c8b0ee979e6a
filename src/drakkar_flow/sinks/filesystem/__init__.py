"""The file sink: JSON-lines files below one directory."""
