"""Runtime on Bytewax: source, async step, delivery, tracking, commit."""
