"""Every error of the tree comes back as itself, and the client stays light."""

import subprocess
import sys

import pytest

from service.client.problems import error_of, error_of_reply
from service.errors import UnavailableError, WarplineError
from service.errors.tree import errors_by_slug

HEAVY = ("numpy", "numba", "fastapi", "onnxruntime", "nibabel", "sqlalchemy", "torch")


@pytest.mark.parametrize("slug", sorted(errors_by_slug()))
def test_every_error_survives_the_wire(slug: str) -> None:
    kind = errors_by_slug()[slug]
    sent = kind("What is wrong.", field="fixed", errors=({"field": "a", "detail": "b"},))
    back = error_of(sent.problem())
    assert type(back) is kind
    assert (back.detail, back.field, back.errors) == (sent.detail, sent.field, sent.errors)


def test_an_unknown_code_is_still_an_error() -> None:
    error = error_of({"code": "from-the-future", "detail": "Something new."})
    assert type(error) is WarplineError
    assert error.detail == "Something new."


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[]", b'{"a": 1}'])
def test_a_proxy_in_between_is_understood(body: bytes) -> None:
    assert isinstance(error_of_reply(502, body, None), UnavailableError)
    assert type(error_of_reply(404, body, None)) is WarplineError


def test_the_client_imports_nothing_heavy() -> None:
    code = f"import sys, service.client\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rest_needs_no_grpc() -> None:
    code = (
        "import sys\n"
        "sys.modules['grpc'] = None\n"
        "from service.client import Client, connect\n"
        "connect('http://127.0.0.1:1').close()\n"
        "from service.cli.shared_options import connect\n"
        "from service.errors import MissingExtraError\n"
        "try:\n    connect('grpc://127.0.0.1:1', None)\n"
        "except MissingExtraError as error:\n    print('told')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "told"


def test_what_is_imported_late_is_there() -> None:
    import service.client

    for name in service.client.__all__:
        assert getattr(service.client, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        service.client.Nothing  # noqa: B018
