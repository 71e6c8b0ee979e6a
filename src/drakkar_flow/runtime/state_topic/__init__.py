"""The state topic of group mode: its settings, the restore of partitions, and the transactions that write it."""
