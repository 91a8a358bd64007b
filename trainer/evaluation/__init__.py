"""Measuring models on pairs: what `trainer.evaluate` is made of."""
