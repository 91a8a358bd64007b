"""What a server's training left, laid out as a training here lays it out."""

from pathlib import Path

from service.registration.card import Card

# Files of the model, and of the training; all others are of the evaluation.
MODEL = ("model.onnx", "card.json", "README.md", "train.yaml")
RECORDS = ("config.yaml", "metrics.jsonl")


def lay_out(folder: Path) -> Path:
    """Move results into `model/NAME/VERSION/` and `evaluation/`; gives the model's folder.

    Args:
        folder: With the results of a training side by side, as they are fetched.

    Raises:
        ModelInvalidError: If the card is missing or none.
    """
    card = Card.read(folder / "card.json")  # names and versions in it are plain
    model = folder / "model" / card.name / card.version
    found = [path for path in folder.iterdir() if path.name not in RECORDS]
    for path in found:
        target = model if path.name in MODEL else folder / "evaluation"
        target.mkdir(parents=True, exist_ok=True)
        path.replace(target / path.name)
    return model
