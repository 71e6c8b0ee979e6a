"""The Kafka sink: a message per payload."""
