"""From graph to Bytewax dataflow: check, then lower."""
