"""Who did what, when, and how it ended: records in a file that only grows, chained by hashes."""
