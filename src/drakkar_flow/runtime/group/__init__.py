"""The member of a consumer group: what it reads ahead, commits, and hands over."""
