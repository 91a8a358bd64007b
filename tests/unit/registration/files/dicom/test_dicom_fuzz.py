"""Whatever is changed in a good DICOM file, the answer is a volume or an error of ours."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.dicom import KINDS, SPECIAL, Change, changed, run, run_objects, run_once
from tests.fuzz.dicom_seeds import Seed, seeds

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHARE = st.floats(0, 1, exclude_max=True)
CHANGE = st.builds(
    Change,
    kind=st.sampled_from(KINDS),
    at=SHARE,
    to=SHARE,
    data=st.sampled_from(SPECIAL) | st.binary(min_size=1, max_size=30),
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return seeds(tmp_path_factory.mktemp("seeds"))


@FUZZ
@given(data=st.data(), changes=st.lists(CHANGE, min_size=1, max_size=5))
def test_a_changed_file(
    data: st.DataObject, changes: list[Change], known: list[Seed], tmp_path: Path
) -> None:
    seed = data.draw(st.sampled_from(known), label="seed")
    path = tmp_path / "fuzzed.dcm"
    path.write_bytes(changed(seed, changes))
    if seed.is_object:
        run_objects([path])
    else:
        run_once([path, *seed.beside])


def test_unchanged_files_are_read(known: list[Seed], tmp_path: Path) -> None:
    for seed in known:
        path = tmp_path / "seed.dcm"
        path.write_bytes(b"".join(seed.parts))
        told = run_objects([path]) if seed.is_object else run_once([path, *seed.beside])
        assert told == "read", seed.name


def test_the_command_counts_every_execution(tmp_path: Path) -> None:
    outcomes = run(30, 5, tmp_path)
    assert sum(outcomes.values()) == 30
    assert not outcomes["DEFECT"]
