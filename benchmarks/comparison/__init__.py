"""Registrations by several systems on the same pairs: `benchmarks/peers.py` drives it."""
