"""Bring an image's values to the range that a network was made for."""

import numpy as np
from jaxtyping import Float32

from service.registration.card import Intensity

Values = Float32[np.ndarray, "i j k"]

# Percentiles are taken from at most about this many voxels, evenly strided.
SAMPLE_VOXELS = 300_000


def normalise(values: Values, rule: Intensity) -> Values:
    """(v - low) / (high - low), clipped to [0, 1] if the card says so.

    low and high are the card's values (`window`) or percentiles of this image (`percentiles`,
    from an even sample of about 300,000 voxels). Where they coincide, the image's own extremes
    take their place, and a constant image becomes 0.

    Source: the rule is the model card's.
    """
    if rule.rule == "none":
        return values
    low, high = rule.low, rule.high
    if rule.rule == "percentiles":
        low, high = _percentiles(values, rule.low, rule.high)
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros_like(values)
    scaled = (values - np.float32(low)) * np.float32(1 / (high - low))
    if rule.clip:
        np.clip(scaled, 0, 1, out=scaled)
    return scaled


def _percentiles(values: Values, low: float, high: float) -> tuple[float, float]:
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // SAMPLE_VOXELS)]
    found = np.percentile(sample, [low, high])
    return float(found[0]), float(found[1])
