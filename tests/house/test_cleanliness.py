"""Nothing in the tree names the machine that it was written on, or hides a loose end."""

import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).name
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org"}


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def texts() -> dict[Path, str]:
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:4096]:
            found[path.relative_to(ROOT)] = data.decode("utf-8", errors="replace")
    return found


def package_index_hosts() -> set[str]:
    """Hosts that this machine's pip is told to ask; private ones must not leak into the tree."""
    hosts = set()
    for path in (
        Path.home() / ".config/pip/pip.conf",
        Path.home() / ".pip/pip.conf",
        Path("/etc/pip.conf"),
    ):
        config = ConfigParser(interpolation=None)
        if not path.is_file() or not config.read(path):
            continue
        for section in config.sections():
            for key in ("index-url", "extra-index-url"):
                urls = config.get(section, key, fallback="").split()
                hosts |= {urlsplit(url).hostname or "" for url in urls}
    return hosts - PUBLIC_HOSTS - {"", "localhost", "127.0.0.1"}


def test_no_file_names_this_machine():
    forbidden = {f"{ROOT.parent}/", *package_index_hosts()} - {"//", "/"}
    named = [
        f"{path}: {word}" for path, text in texts().items() for word in forbidden if word in text
    ]
    assert not named


def test_no_file_holds_a_home_folder_path():
    home = re.compile(r"(?<![\w.])/(?:home|Users)/[a-z][\w.-]+/")
    assert not [path for path, text in texts().items() if home.search(text) and path.name != HERE]


def test_no_loose_ends_in_the_code():
    loose = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|^\s*except\s*:", re.MULTILINE)
    found = [
        path
        for path, text in texts().items()
        if path.suffix == ".py" and loose.search(text) and path.name != HERE
    ]
    assert not found


def test_no_large_file_but_model_weights():
    large = [path for path in tracked() if path.stat().st_size > 500_000 and path.suffix != ".onnx"]
    assert not large


def test_no_private_key_or_password_is_in_the_tree():
    secret = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}")
    assert not [path for path, text in texts().items() if secret.search(text) and path.name != HERE]
