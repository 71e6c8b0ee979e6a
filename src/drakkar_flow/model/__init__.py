"""The frozen values everything else speaks of: records, tasks, payloads, outcomes."""
