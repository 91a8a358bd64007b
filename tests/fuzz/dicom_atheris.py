"""The same executions led by coverage: optional, needs `pip install -e '.[fuzz]'`.

    nice python -m tests.fuzz.dicom_atheris SEEDS -runs=100000 [-max_len=20000]

SEEDS is a folder, which is filled with the good files if it is empty and kept with what is found.
"""

import logging
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

with atheris.instrument_imports(include=["service", "pydicom"]):
    from tests.fuzz.dicom import run_objects, run_once
    from tests.fuzz.dicom_seeds import seeds


def execute(content: bytes, path: Path) -> None:
    """One file, as an image and as labels or points; what escapes is a finding."""
    path.write_bytes(content)
    run_once([path])
    run_objects([path])


def main() -> None:
    """Run libFuzzer with its own options."""
    warnings.simplefilter("ignore")
    logging.disable()
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    if not any(folder.iterdir()):
        with TemporaryDirectory() as made:
            for seed in seeds(Path(made)):
                (folder / seed.name).write_bytes(b"".join(seed.parts))
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "fuzzed.dcm"
        atheris.Setup(sys.argv, lambda content: execute(content, path))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
