"""Events emitted once; metrics and logs are listeners."""
