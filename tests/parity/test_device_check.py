"""The check of a GPU: silent where a device computes as the CPU does, and only there."""

import math
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

from service.registration.descent import Level
from service.registration.device_check import Apart, apart
from service.registration.device_level import DeviceLevel
from service.registration.engine import Engine
from service.registration.models_folder import ModelFolder

SIZE = (40, 48, 44)
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return ModelFolder(MODELS).load("discrete", "cpu")


def test_the_steps_as_a_graph_are_as_the_kernels(engine: Engine) -> None:
    found = apart(engine, engine, partial(DeviceLevel, provider="cpu"), SIZE)
    assert found.are_alike
    assert found.network == 0
    assert found.refinement > 0  # the graph ran, which rounds otherwise


class _Longer(Level):
    """Its steps are a hundredth too long."""

    def step(self, step_mm: float) -> float:
        return super().step(1.01 * step_mm)


def test_steps_that_are_a_little_wrong_are_found(engine: Engine) -> None:
    assert not apart(engine, engine, _Longer, SIZE).are_alike


@pytest.mark.parametrize("wrong", [0.011, math.inf, math.nan])
def test_one_wrong_field_is_enough(wrong: float) -> None:
    assert Apart(0.01, 0.01).are_alike
    assert not Apart(wrong, 0.0).are_alike
    assert not Apart(0.0, wrong).are_alike
