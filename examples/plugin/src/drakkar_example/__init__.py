"""A plug-in of drakkar-flow."""
