"""Certificates that the peers' file names: those that cannot be used are told when it is read."""

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.pacs.tls import Tls
from tests.certificates import certified


def test_a_pair_that_fits(tmp_path: Path) -> None:
    certificate, key = certified(tmp_path, "ours")
    assert Tls(ca_file=certificate, certificate=certificate, key=key).key == key


@pytest.mark.parametrize("how", ["another-key", "no-key", "locked-key", "no-ca"])
def test_what_cannot_be_used_is_told_at_once(how: str, tmp_path: Path) -> None:
    certificate, key = certified(tmp_path, "ours")
    authority = certificate
    if how == "another-key":
        _, key = certified(tmp_path, "theirs")
    elif how == "no-key":
        key = certificate
    elif how == "locked-key":  # nobody is there to be asked for its password
        locked = tmp_path / "locked.key"
        asked = f"pkey -in {key} -aes256 -passout pass:secret -out {locked}"
        subprocess.run(["openssl", *asked.split()], check=True, capture_output=True)
        key = locked
    else:
        authority = key
    with pytest.raises(ValidationError, match="cannot be read, or they do not fit"):
        Tls(ca_file=authority, certificate=certificate, key=key)
