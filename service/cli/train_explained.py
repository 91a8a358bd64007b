"""`warpline train --explain` and `--recipes`: every option, and configurations to begin with."""

from typing import TYPE_CHECKING

from service.cli import screen

if TYPE_CHECKING:
    from trainer.config.explain import Option


def show_options(*, as_json: bool) -> None:
    """Print path, type, default and meaning of each option; as JSON, the schema."""
    from rich.padding import Padding
    from rich.text import Text

    from trainer.config import TrainConfig
    from trainer.config.explain import explain

    if as_json:
        screen.print_json(TrainConfig.model_json_schema())
        return
    console = screen.stdout()
    for option in explain():
        is_section = option.default is None
        screen.print_styled(option.path, "bold", "" if is_section else _value(option))
        console.print(Padding(Text(option.meaning), (0, 0, 0, 4)))


def _value(option: "Option") -> str:
    default = "required" if option.default == "required" else f"default {option.default}"
    return f"{option.type}; {default}"


def show_recipes(*, as_json: bool) -> None:
    """Print the recipes and what each does."""
    from trainer.config.recipes import recipes

    if as_json:
        screen.print_json(recipes())
        return
    shown = screen.listing("recipe", "what it does")
    for name, meaning in recipes().items():
        shown.add_row(name, meaning)
    screen.stdout().print(shown)
