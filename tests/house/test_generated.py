"""What is generated from the code is up to date: `make docs` writes it."""

import importlib.util
from pathlib import Path

import pytest

from service import errors
from service.settings import Settings

ROOT = Path(__file__).parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = load_generator().generated()


def tree(kind=errors.WarplineError):
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


@pytest.mark.parametrize("path", sorted(GENERATED))
def test_generated_file_is_what_the_code_says(path):
    assert (ROOT / path).read_text("utf-8") == GENERATED[path], "run `make docs`"


def test_every_error_has_its_own_code_a_sentence_and_a_client_or_server_status():
    kinds = list(tree())
    codes = [kind.slug for kind in kinds]
    assert len(set(codes)) == len(codes)
    for kind in kinds:
        assert kind.__doc__.strip().endswith("."), kind
        assert 400 <= kind.http_status <= 599, kind
        assert kind().problem()["code"] in GENERATED["docs/errors.md"]


def test_errors_are_defined_in_one_package_only():
    foreign = {
        kind.__qualname__
        for kind in all_subclasses(errors.WarplineError)
        if not kind.__module__.startswith(f"{errors.__name__}.")
        and kind.__module__.startswith("service")
    }
    assert not foreign


def test_every_error_is_exported():
    ours = [
        kind.__name__
        for kind in all_subclasses(errors.WarplineError)
        if kind.__module__.startswith("service")
    ]
    assert sorted(["WarplineError", *ours]) == sorted(errors.__all__)


def all_subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from all_subclasses(child)


def test_every_setting_is_described_and_listed():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert f"WARPLINE_{name.upper()}=" in GENERATED[".env.example"]
