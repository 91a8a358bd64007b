"""Signed URLs of the file store."""

import stat
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import hypothesis.strategies as st
import pytest
from hypothesis import given

from service.errors import SignedUrlError
from service.stores.signing import UrlSigner, secret_in

KEY = "jobs/5d0b/1/warped.nii.gz"
NOW = 1_800_000_000.0
HOUR = timedelta(hours=1)


def parts(url: str) -> dict[str, str]:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    found = {name: values[0] for name, values in query.items()}
    if "type" in found:
        found["media_type"] = found.pop("type")
    return {"key": unquote(urlsplit(url).path).removeprefix("/v1/objects/"), **found}


def signer(now: float = NOW, secret: bytes = b"secret") -> UrlSigner:
    return UrlSigner(secret, "https://images.example/", clock=lambda: now)


def test_a_good_url_passes_until_it_expires() -> None:
    url = signer().url(KEY, HOUR, name="warped & more.nii.gz", media_type="application/gzip")
    assert url.startswith(f"https://images.example/v1/objects/{KEY}?expires=1800003600&")
    assert parts(url)["name"] == "warped & more.nii.gz"
    signer().verify(**parts(url))
    signer(NOW + 3599).verify(**parts(url))
    with pytest.raises(SignedUrlError):
        signer(NOW + 3600).verify(**parts(url))


@pytest.mark.parametrize("part", ["key", "expires", "name", "media_type", "sig"])
def test_no_part_can_be_changed(part: str) -> None:
    good = parts(signer().url(KEY, HOUR, name="a.txt", media_type="text/plain"))
    for changed in (good[part] + "0", good[part][:-1], "", "9" * 20, "é"):
        with pytest.raises(SignedUrlError):
            signer().verify(**{**good, part: changed})


def test_a_part_cannot_be_left_out_or_moved() -> None:
    good = parts(signer().url(KEY, HOUR, name="ab", media_type="c"))
    without = {name: value for name, value in good.items() if name != "name"}
    for bad in (without, good | {"name": "a", "media_type": "bc"}, good | {"key": KEY + "1"}):
        with pytest.raises(SignedUrlError):
            signer().verify(**bad)


def test_another_secret_does_not_open() -> None:
    with pytest.raises(SignedUrlError):
        signer(secret=b"other").verify(**parts(signer().url(KEY, HOUR)))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_file_name_survives_the_url(name: str, media_type: str) -> None:
    url = signer().url(KEY, HOUR, name=name, media_type=media_type)
    signer().verify(**parts(url))


def test_the_secret_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    first = secret_in(tmp_path)
    assert len(first) == 64
    assert secret_in(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "url-signing-key").stat().st_mode) == 0o600
