"""Arrows go down: what each face must not have loaded, and the contracts of pyproject.toml."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCIENCE_RUNTIMES = {"onnxruntime", "torch", "numba", "openvino", "SimpleITK"}
SERVERS = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "celery", "redis", "obstore", "alembic"}
FACES = {
    "service.gateway.main": SCIENCE_RUNTIMES | {"PIL", "scipy"},
    "service.worker.main": {"torch", "onnx", "onnxscript", "fastapi", "uvicorn"},
    "service.live.main": {"torch", "onnx", "onnxscript", "fastapi", "uvicorn", "celery"},
    "service.client": SCIENCE_RUNTIMES | SERVERS | {"nibabel", "PIL", "scipy"},
    "service.cli.main": SCIENCE_RUNTIMES | SERVERS | {"nibabel", "PIL", "scipy", "nilearn"},
}
LIST_LOADED = "import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"


def loaded_by(module: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LIST_LOADED.format(module=module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("face", sorted(FACES))
def test_face_starts_without_what_it_must_not_know(face):
    assert not loaded_by(face) & FACES[face]


def test_import_contracts_are_kept():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert ", 0 broken" in done.stdout
