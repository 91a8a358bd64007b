"""What `warpline doctor` says of a machine: here all that is needed works."""

import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from service.cli import checks  # noqa: E402
from service.cli.checks import Check, check_machine  # noqa: E402
from service.registration import device_check, models_folder  # noqa: E402
from service.registration.device_check import Apart  # noqa: E402
from service.registration.engine import Engine  # noqa: E402

without_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="CUDA is installed here",
)


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


@without_cuda
def test_nothing_that_is_needed_fails_here() -> None:
    found = by_name(check_machine())
    assert [name for name, check in found.items() if check.status == "fail"] == []
    assert found["GPU"].detail == "none is used: models run on cpu"
    assert "discrete/1" in found["models"].detail


@without_cuda
def test_a_gpu_that_was_asked_for_and_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARPLINE_PROVIDER", "cuda")
    found = by_name(check_machine())
    for name in ("ONNX Runtime", "GPU"):
        assert found[name].status == "fail"
        assert "worker-gpu" in found[name].detail


class _OnGpu(Engine):
    """Says that it is on a GPU."""

    provider = "cuda"

    def start(self) -> None:
        """Nothing runs."""


@pytest.mark.parametrize(
    ("apart", "status", "words"),
    [
        (Apart(2e-4, 9e-3), "ok", "2.0e-04 (network) and 9.0e-03 (refinement) voxels"),
        (Apart(2e-4, 0.5), "fail", "set WARPLINE_PROVIDER=cpu"),
    ],
)
def test_a_gpu_is_good_if_its_fields_are(
    monkeypatch: pytest.MonkeyPatch, apart: Apart, status: str, words: str
) -> None:
    def opened(card: object, graph: object, provider: str, _threads: object, **_: object) -> Engine:
        return (Engine if provider == "cpu" else _OnGpu)(card, graph)  # type: ignore[arg-type]

    def compared(engine: Engine, reference: Engine) -> Apart:
        assert (engine.provider, reference.provider) == ("cuda", "cpu")
        return apart

    monkeypatch.setattr(models_folder, "open_engine", opened)
    monkeypatch.setattr(device_check, "apart", compared)
    found = checks._gpu()
    assert found.status == status
    assert words in found.detail
