"""Member of a Kafka consumer group: reads ahead, commits, and hands partitions over."""
