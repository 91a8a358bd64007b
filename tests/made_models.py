"""Models that are known by construction, made and published as a training job does it."""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx

from service.jobs.job import Job, Kind, NewJob, Queue, Request, State
from service.jobs.model import ComparedMetric, Comparison, ModelId, NewModel, Verdict
from service.jobs.runner import MadeModel, Outcome, Output, Runner, Watch
from service.registration.card import (
    Card,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from service.stores.build import Stores

LEASE = timedelta(seconds=30)
SPACING_MM = 2.0


def shift_graph(shift_voxels: tuple[float, float, float]) -> bytes:
    """A graph whose displacement is the same everywhere, on a grid of any size."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    five = [1, 1, "i", "j", "k"]
    shift = np.array(shift_voxels, np.float32).reshape(1, 3, 1, 1, 1)
    constants = {"zero": np.zeros((1, 1, 1, 1, 1), np.float32), "shift": shift}
    nodes = [
        helper.make_node("Add", ["fixed", "moving"], ["both"]),
        helper.make_node("Mul", ["both", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "shift"], ["displacement"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shift",
        [helper.make_tensor_value_info(name, float32, five) for name in ("fixed", "moving")],
        [helper.make_tensor_value_info("displacement", float32, [1, 3, "i", "j", "k"])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def card_for(model_id: ModelId, graph: bytes) -> Card:
    """What a graph of `shift_graph` promises."""
    return Card(
        name=model_id.name,
        version=model_id.version,
        summary="Moves everything by the same vector.",
        inputs=(InputTensor(name="fixed", role="fixed"), InputTensor(name="moving", role="moving")),
        output=OutputTensor(name="displacement", kind="displacement"),
        grid=ModelGrid(spacing_mm=SPACING_MM),
        intensity=Intensity(rule="none"),
        providers=("cpu",),
        opset=20,
        sha256=hashlib.sha256(graph).hexdigest(),
        modalities=("any",),
        anatomy=("any",),
        training=Training(method="none", configuration={}, data="none"),
        licence="Apache-2.0",
    )


def compared(against: str | None, verdict: Verdict = Verdict.BETTER) -> Comparison:
    """A comparison as a training job makes it."""
    dice = ComparedMetric(candidate=0.8, production=0.7, wins=4, losses=1)
    return Comparison(
        against=against, pairs=5, digest="5" * 64, metrics={"dice": dice}, verdict=verdict
    )


@dataclass(frozen=True)
class FakeTraining:
    """`service.jobs.runner.Work` that makes a model in no time."""

    shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0)
    comparison: Comparison | None = None

    def __call__(self, job: Job, folder: Path, watch: Watch) -> Outcome:
        watch("train", 0.5)
        model_id = job.request.publishes
        assert model_id is not None
        graph = shift_graph(self.shift_voxels)
        card = card_for(model_id, graph).model_dump(mode="json")
        (folder / "model.onnx").write_bytes(graph)
        (folder / "card.json").write_text(json.dumps(card))
        files = {
            "model.onnx": Output(folder / "model.onnx", "application/octet-stream"),
            "card.json": Output(folder / "card.json", "application/json"),
        }
        return Outcome({}, model=MadeModel(model_id, files, card, self.comparison))


def publish(
    stores: Stores, scratch: Path, wish: NewModel, work: FakeTraining | None = None
) -> ModelId:
    """Submit a training job, do it as a worker would, and give what it made."""
    asked = Request(kind=Kind.TRAIN, inputs={})
    new = NewJob(
        owner="ada",
        request=asked,
        request_digest="d" * 64,
        queue=Queue.TRAIN,
        deadline_s=600,
        publishes=wish,
    )
    stores.jobs.add(new)
    claim = stores.jobs.claim([Queue.TRAIN], "trainer", LEASE)
    assert claim is not None
    runner = Runner(stores.jobs, stores.blobs, work or FakeTraining(), scratch, LEASE, 3)
    assert runner.run(claim) is State.SUCCEEDED, stores.jobs.job(claim.job.id).problem
    assert claim.job.request.publishes is not None
    return claim.job.request.publishes
