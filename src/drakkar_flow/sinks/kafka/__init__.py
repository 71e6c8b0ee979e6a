"""Kafka sink: one message per payload."""
