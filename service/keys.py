"""Who is calling: API keys, kept as SHA-256 sums only."""
