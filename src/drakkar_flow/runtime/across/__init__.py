"""State across partitions: records travel by key to the process of the key's shard, and acknowledgements return."""
