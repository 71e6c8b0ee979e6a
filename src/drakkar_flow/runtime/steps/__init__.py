"""The steps that a flow is lowered to, and what they are made of."""
