"""The shipped universal models: any size, torch's result, and contrasts that it never saw."""

import numpy as np
import pytest

from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder, default_models_dir
from service.registration.volume import Volume

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from trainer.config import read_config  # noqa: E402
from trainer.config.synth import SynthConfig  # noqa: E402
from trainer.export_graph import Signature, require_parity  # noqa: E402
from trainer.networks.build import build_network  # noqa: E402
from trainer.synth import SyntheticPairs  # noqa: E402

FOLDER = default_models_dir() / "universal"
SIZE = (48, 56, 40)
SIZES = (SIZE, (16, 64, 24), (8, 8, 16))
SYNTH = SynthConfig.model_validate(
    {
        "shapes": {"labels": 12, "node_mm": [8, 16]},
        "field": {"strength_mm": 2.5, "node_mm": [12, 24]},
        "image": {"same_contrast": 0, "crop_probability": 0, "slices_probability": 0},
    }
)


@pytest.fixture(scope="module", params=["1", "2"])
def version(request):
    return request.param


@pytest.fixture(scope="module")
def network(version):
    """The configuration beside the graph, with the graph's own weights."""
    made = build_network(read_config([FOLDER / version / "train.yaml"]).network)
    graph = onnx.load(FOLDER / version / "model.onnx").graph
    arrays = {t.name: onnx.numpy_helper.to_array(t).copy() for t in graph.initializer}
    by_shape = {array.shape: array for array in arrays.values()}
    for name, weights in made.named_parameters():
        found, shape = arrays.get(name), tuple(weights.shape)
        if found is None:  # the exporter gave it a number, and may have turned it
            found = by_shape[shape] if shape in by_shape else by_shape[shape[::-1]].T
        weights.data.copy_(torch.from_numpy(found))
    return made.eval()


def test_onnxruntime_equals_torch(network, version):
    graph = (FOLDER / version / "model.onnx").read_bytes()
    require_parity(network, graph, SIZES, Signature("displacement", 3, 8))


def test_it_registers_contrasts_that_differ(version):
    engine, grid = ModelFolder().load(f"universal/{version}"), Grid(SIZE, np.eye(4))
    source, before, after = SyntheticPairs(SYNTH, SIZE, (1, 1, 1), 4242), [], []
    for number in range(3):  # none is of the seed that the weights were fitted on
        pair = source.draw(number)
        fixed, moving = (Volume(side[0].numpy(), grid) for side in (pair.fixed, pair.moving))
        field = engine.predict(fixed, moving, Affine.identity())
        voxels = np.argwhere(np.ones([n - 16 for n in SIZE]))[::97] + 8
        true = pair.displacement.numpy()[(slice(None), *voxels.T)].T
        points = voxels.astype(float)
        before.append(np.linalg.norm(true, axis=1).mean())
        after.append(np.linalg.norm(field.move(points) - points - true, axis=1).mean())
    assert np.mean(after) < 0.8 * np.mean(before)
    assert all(a < b for a, b in zip(after, before, strict=True))
