"""What to train, on what, and how: one document, checked as a whole. No torch here."""

from trainer.config.document import (
    CardConfig,
    EvaluationConfig,
    NetworkConfig,
    TrainConfig,
)
from trainer.config.reading import merge, parse_config, read_config

__all__ = [
    "CardConfig",
    "EvaluationConfig",
    "NetworkConfig",
    "TrainConfig",
    "merge",
    "parse_config",
    "read_config",
]
