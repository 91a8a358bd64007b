"""Writes service/pb from proto/warpline/v1: `make proto`. A house test compares.

Usage: python proto/generate.py [TARGET]
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
SOURCE = "proto/warpline/v1"
PACKAGE = "service/pb"


def generate(target: Path) -> None:
    """Write the messages, their types and the stubs below `target`.

    The source folder is mapped to the package, so that the generated modules import each other
    by their real name.
    """
    options = [
        f"-I{PACKAGE}={ROOT / SOURCE}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out={target}",
        f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).with_name('protoc-gen-mypy_grpc')}",
    ]
    sources = [f"{PACKAGE}/{path.name}" for path in sorted((ROOT / SOURCE).glob("*.proto"))]
    if code := protoc.main(["protoc", *options, *sources]):
        raise SystemExit(code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
