"""Recovery: fixed mode, in which this process keeps its partitions' positions and state in Bytewax's recovery store."""
