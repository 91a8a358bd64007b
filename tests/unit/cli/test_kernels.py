"""Knowing about compiled kernels without numba."""

import os
from pathlib import Path

import pytest

from service import registration
from service.cli.kernels import kernels


def test_the_cache_is_compared_with_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, cache = tmp_path / "kernels", tmp_path / "kernels" / "__pycache__"
    cache.mkdir(parents=True)
    monkeypatch.setattr(registration, "__path__", [str(tmp_path)])
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    for name in ("__init__", "launch", "sampling"):
        (package / f"{name}.py").write_text("def kernel(function): ...\n")
    for name in ("pull", "flow", "lattice"):
        (package / f"{name}.py").write_text("\n\n@kernel\ndef run(out): ...\n")
    assert (kernels().modules, kernels().compiled, kernels().are_there) == (3, 0, False)
    for name in (
        "a.pull.warp-12ab.kernel",
        "pull.labels-40.py311.nbi",
        "a.flow.compose-9ef.kernel",
    ):
        (cache / name).touch()
    assert (kernels().compiled, kernels().are_there) == (2, True)
    os.utime(cache / "a.flow.compose-9ef.kernel", (1, 1))  # older than its source
    assert (kernels().compiled, kernels().are_there) == (1, False)
