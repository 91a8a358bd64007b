"""Training pairs without any acquired image."""

from trainer.synth.pairs import SyntheticPair, SyntheticPairs

__all__ = ["SyntheticPair", "SyntheticPairs"]
