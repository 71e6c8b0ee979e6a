"""Filesystem sink: files below one directory."""
