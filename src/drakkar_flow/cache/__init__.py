"""Cache: values by key in memory and in a file, shared between workers. See docs/cache.md."""
