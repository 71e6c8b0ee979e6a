"""Kinds of sinks and executors: their protocols, their specs, and the registries that plug-ins enter."""
