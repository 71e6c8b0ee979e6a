"""Kafka messages in, external programs at work, results to sinks, offsets committed when all of it is safe."""
