"""Which models a live process has: the shipped ones, and trained ones where a stack keeps them."""

import numpy as np
import pytest

from service.errors import ModelNotFoundError
from service.jobs.model import NewModel
from service.live.engines import Engines
from service.live.opening import LiveLimits, read_open
from service.live.reference import ReferenceUpload
from service.pb import warpline_pb2 as pb
from service.registration.volume import Volume
from service.settings import Settings
from service.stores.build import open_stores
from tests.live_client import chunks
from tests.live_fakes import image, wish
from tests.made_models import FakeTraining, publish


def opening(model: str, config: Settings):
    options = pb.RegisterOptions(model=model, initialise="none", refine="none")
    outputs = pb.LiveOutputs(field=pb.FIELD_OUTPUT_FULL)
    message = pb.Open(**wish(options=options, outputs=outputs))
    return read_open(message, LiveLimits.of(config))


def test_without_a_stack_there_are_the_shipped_models_and_no_database_is_made(tmp_path):
    config = Settings(data_dir=tmp_path / "data", provider="cpu", threads=1)
    engines = Engines(config)
    engines.load(opening("discrete", config))
    with pytest.raises(ModelNotFoundError):
        engines.load(opening("toy", config))
    assert not (tmp_path / "data").exists()


def test_a_model_that_was_trained_on_this_machine_registers_frames(tmp_path):
    config = Settings(data_dir=tmp_path / "data", provider="cpu", threads=1)
    engines = Engines(config)  # before anybody made a database, as `warpline up` may do it
    stores = open_stores(config)
    publish(stores, tmp_path, NewModel(name="toy"), FakeTraining((1.0, 0.0, -0.5)))
    stores.close()
    wanted = opening("toy/1", config)
    engines.load(wanted)
    upload = ReferenceUpload(wanted)
    (part,) = chunks(image(1), pb.VOXEL_TARGET_REFERENCE)
    assert upload.take(part.chunk)
    tracked = engines(wanted, upload.reference()).step(Volume(image(1), wanted.frame.grid))
    assert tracked.field is not None
    assert np.isfinite(tracked.field.vectors_mm).all()
