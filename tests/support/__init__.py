"""What tests share besides fixtures; `from support.kafka_io import produce`."""
