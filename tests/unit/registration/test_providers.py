"""A GPU's libraries are looked for where pip puts them, and what is missing is said."""

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import ProviderUnavailableError
from service.registration import providers
from service.registration.device_places import GRAPH

ON_CPU = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An onnxruntime that tells what it is asked to, in order, and has no CUDA."""
    asked: list[str] = []

    def preload_dlls(directory: str) -> None:
        asked.append(f"preload {directory!r}")
        print("Failed to load libcublas.so.13")

    def session(graph: str, options: Any, providers: Any) -> Any:
        asked.append(f"session on {providers[0][0]}")
        return ON_CPU

    options = SimpleNamespace(add_session_config_entry=lambda *_: None)
    module = SimpleNamespace(
        preload_dlls=preload_dlls, InferenceSession=session, SessionOptions=lambda: options
    )
    monkeypatch.setattr(providers, "onnxruntime", lambda: module)
    providers._bring_cuda.cache_clear()
    yield asked
    providers._bring_cuda.cache_clear()


def test_cuda_is_brought_from_the_packages_before_a_session_once(fake, capsys):
    for _ in range(2):
        providers.start_session(GRAPH, "cuda", 1)
    session = "session on CUDAExecutionProvider"
    assert fake == ["preload ''", session, session]
    assert capsys.readouterr().out == ""


def test_the_cpu_needs_no_cuda(fake):
    providers.start_session(GRAPH, "cpu", 1)
    assert fake == ["session on CPUExecutionProvider"]


@pytest.mark.parametrize(("has_driver", "said"), [(False, "libcuda"), (True, "worker-gpu")])
def test_a_session_that_fell_back_says_what_cuda_lacks(monkeypatch, has_driver, said):
    def load(name: str) -> None:
        assert name == "libcuda.so.1"
        if not has_driver:
            raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(ProviderUnavailableError, match=said):
        providers.require_provider(ON_CPU, "cuda")
    with pytest.raises(ProviderUnavailableError, match=r"openvino .* machine\.$"):
        providers.require_provider(ON_CPU, "openvino")
