"""Everything Bytewax-facing: source, async step, delivery, tracking, commit."""
