"""The shipped discrete graph gives what torch gives, on more shapes than the one traced."""

import numpy as np
import onnxruntime
import pytest

from service.registration.models_folder import default_models_dir

torch = pytest.importorskip("torch")

from trainer.export import PARITY, parity  # noqa: E402
from trainer.networks.discrete import Discrete  # noqa: E402

GRAPH = default_models_dir() / "discrete" / "1" / "model.onnx"


@pytest.mark.parametrize("shape", [(48, 56, 40), (20, 64, 36), (4, 24, 16), (4, 4, 4)])
def test_onnxruntime_equals_torch(shape: tuple[int, int, int]) -> None:
    assert parity(Discrete().eval(), GRAPH.read_bytes(), shape) <= PARITY


def test_the_same_inputs_give_the_same_bytes() -> None:
    session = onnxruntime.InferenceSession(GRAPH, providers=["CPUExecutionProvider"])
    feed = {
        name: np.random.default_rng(seed).random((1, 1, 32, 24, 28)).astype(np.float32)
        for seed, name in enumerate(("fixed", "moving"))
    }
    first, second = (session.run(None, feed)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_graph_names_no_file_of_the_machine_that_made_it() -> None:
    assert b"/torch/" not in GRAPH.read_bytes()
    assert b"site-packages" not in GRAPH.read_bytes()
