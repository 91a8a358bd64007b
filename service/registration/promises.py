"""What a graph is held to: the inputs and outputs that its card names."""

from typing import Any

from service.errors import ModelInvalidError
from service.registration.card import Card


def require_promised(session: Any, card: Card) -> None:
    """Refuse a graph whose inputs and outputs are not the card's.

    Raises:
        ModelInvalidError: If names, number of axes or types differ.
    """
    promised = {part.name: len(part.axes) for part in card.inputs}
    _require_tensors(session.get_inputs(), promised, "inputs")
    promised = {card.output.name: len(card.output.axes)}
    _require_tensors(session.get_outputs(), promised, "outputs")


def _require_tensors(found: Any, promised: dict[str, int], which: str) -> None:
    """Names and how many axes each has."""
    names = [tensor.name for tensor in found]
    if sorted(names) != sorted(promised):
        raise ModelInvalidError(
            f"The graph's {which} are {', '.join(names)}; its card promises {', '.join(promised)}."
        )
    for tensor in found:
        axes = promised[tensor.name]
        if tensor.type != "tensor(float)" or len(tensor.shape) != axes:
            raise ModelInvalidError(
                f"{tensor.name} must be float32 with {axes} axes; it is {tensor.type} with "
                f"{len(tensor.shape)}."
            )
