"""Engine: builds the components of a flow from its configuration, and starts, drains and closes them."""
