"""Throwaway certificates for tests, made by openssl."""

import subprocess
from pathlib import Path

import pytest


def certified(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of this machine that signs itself, and its key: `NAME.pem`, `NAME.key`."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    asked = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    try:
        subprocess.run(["openssl", *asked.split()], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl")
    return certificate, key
