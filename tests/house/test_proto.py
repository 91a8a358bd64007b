"""The proto passes its linter, and the code that is generated from it is up to date."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools")

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")


def generate(target: Path) -> None:
    spec = importlib.util.spec_from_file_location("proto_generate", ROOT / "proto" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.generate(target)


def test_generated_code_is_what_the_proto_says(tmp_path: Path) -> None:
    generate(tmp_path)
    made = {path.name: path.read_text("utf-8") for path in (tmp_path / "service/pb").iterdir()}
    assert set(made) == {
        path.name for path in (ROOT / "service/pb").iterdir() if path.name.startswith("warpline_")
    }
    for name, text in made.items():
        assert (ROOT / "service" / "pb" / name).read_text("utf-8") == text, "run `make proto`"


def test_the_proto_passes_its_linter() -> None:
    if not BUF.exists():
        pytest.skip("buf is not installed")
    done = subprocess.run(
        [BUF, "lint", "proto"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
