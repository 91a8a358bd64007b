"""The gateway reads headers: that must not bring in what it must not have."""

import subprocess
import sys

HEAVY = ("numba", "SimpleITK", "torch", "onnxruntime", "nibabel", "scipy")
MODULES = ("volume_file", "field_file", "points_file", "affine_text")


def test_reading_files_imports_nothing_heavy() -> None:
    program = "\n".join(
        [
            "import sys",
            *(f"import service.registration.files.{name}" for name in MODULES),
            f"print([name for name in {HEAVY!r} if name in sys.modules])",
        ]
    )
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]"
