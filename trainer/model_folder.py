"""A model folder: `<name>/<version>/` with the graph, its card, its page and its configuration."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from service.errors import ConflictError
from service.registration.card import Card, Figure

CONFIGURATION = "train.yaml"


@dataclass(frozen=True)
class ModelExport:
    """All that a model folder is made of; `differences` from torch by shape."""

    card: Card
    graph: bytes
    differences: dict[str, float]
    configuration: str | None = None  # YAML

    def write(
        self, out: Path, figures: tuple[Figure, ...] = (), *, version: str | None = None
    ) -> Path:
        """Make `<out>/<name>/<version>/`, whole or not at all.

        Args:
            out: Folder of models.
            figures: What the card is to say was measured.
            version: Another one than the card's.

        Raises:
            ConflictError: If there is such a version; a version never changes.
            OSError: If there is no room; nothing is left behind.
        """
        card = self.card.model_copy(
            update={"evaluation": figures, "version": version or self.card.version}
        )
        files = {
            "model.onnx": self.graph,
            "card.json": card.written().encode(),
            "README.md": readme_of(card, self.differences, self.configuration).encode(),
        }
        if self.configuration is not None:
            files[CONFIGURATION] = self.configuration.encode()
        return put_version(out, card, files)


def put_version(out: Path, card: Card, files: dict[str, bytes]) -> Path:
    """Write files beside the models that there are, then rename the folder into its place.

    Raises:
        ConflictError: If there is such a version.
    """
    folder = out / card.name / card.version
    taken = ConflictError(
        f"There is a model {card.name}/{card.version} already, and a version never changes. Name "
        "another version."
    )
    if folder.exists():
        raise taken
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=out))
    try:
        for name, data in files.items():
            _write_synced(part / name, data)
        part.chmod(0o755)
        part.rename(folder)  # an empty folder would be replaced; ours are never empty
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if folder.exists():  # another process was quicker
            raise taken from error
        raise
    return folder


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def readme_of(card: Card, differences: dict[str, float], configuration: str | None = None) -> str:
    """The model's page: what it is, its data, its figures, how to make it again."""
    lines = [f"# {card.name}/{card.version}", "", card.summary, ""]
    lines += [f"Modalities: {', '.join(card.modalities)}. Anatomy: {', '.join(card.anatomy)}."]
    lines += [f"{card.training.data} Licence: {card.licence}.", ""]
    if card.evaluation:
        lines += ["| data | pairs | metric | before | after | how |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {f.data} | {f.pairs} | {f.metric} | {f.before:.3f} | {f.after:.3f} | {f.how} |"
            for f in card.evaluation
        ]
        lines += [""]
    worst = ", ".join(f"{value:.0e} on {shape}" for shape, value in differences.items())
    unit = "" if card.output.kind == "warped_label" else ", in voxels"
    lines += [f"Largest difference between torch and onnxruntime{unit}: {worst}.", ""]
    if configuration is None:
        return "\n".join([*lines, f"Made by `python -m trainer.export {card.name}`.", ""])
    lines += _made_by_training(card)
    return "\n".join([*lines, "```yaml", configuration.rstrip(), "```", ""])


def _made_by_training(card: Card) -> list[str]:
    lines = [f"Training: {card.training.method}.", ""]
    lines += ["## What it gives", "", f"{_GIVES[card.output.kind]}."]
    if card.initialise is not None:
        lines += [f"Pairs were aligned by `{card.initialise}` first."]
    if card.grid.spacing_mm is not None:
        unit = "voxels" if card.ndim == 3 else "pixels"
        lines += [f"It sees {unit} of {card.grid.spacing_mm:g} mm."]
    return [
        *lines,
        "",
        "## How to train it again",
        "",
        f"`{CONFIGURATION}` is the whole configuration, but for where the data lie:",
        "",
        "```",
        f"warpline train {CONFIGURATION} --data DATA --out TRAINING",
        "```",
        "",
    ]


_GIVES = {
    "displacement": "A displacement for each cell",
    "velocity": "A stationary velocity for each cell, which is integrated to a displacement",
    "affine": "One affine for the whole image",
    "warped_label": "The probability of a given moving label at each voxel; no transform",
}
