"""The file that names archives: what it may say, and the sentence when it says something else."""

from pathlib import Path

import pytest

from service.errors import ConfigurationError, PacsUnknownError
from service.pacs.peers import DicomwebPeer, DimsePeer, Peers
from service.settings import Settings

WEB = '[peers.MAIN]\nprotocol = "dicomweb"\nurl = "https://pacs.example.org/dicom-web"\n'
BASIC = WEB + 'auth = "basic"\nusername = "w"\npassword = {env = "SECRET"}\n'
DIMSE = '[peers.OLD]\nprotocol = "dimse"\nhost = "pacs"\nport = 104\nae_title = "ARCHIVE"\n'
LISTENER = '[listener]\ncallers = { CT1 = "*" }\n[[listener.rules]]\nname = "r"\n'
RULE = 'fixed = {modality = "CT"}\nmoving = {description = "x"}\n'


def read(folder: Path, text: str) -> Peers:
    path = folder / "peers.toml"
    path.write_text(text)
    return Peers.read(path)


def test_what_a_file_sets_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    peers = read(tmp_path, BASIC + DIMSE + LISTENER + RULE + 'store_to = "OLD"\n')
    main, old = peers.peer("MAIN"), peers.peer("OLD")
    assert isinstance(main, DicomwebPeer)
    assert main.password is not None
    assert main.password.reveal() == "s3cret"
    assert "s3cret" not in repr(peers)
    assert isinstance(old, DimsePeer)
    assert peers.listener is not None
    assert peers.listener.rules[0].store_to == "OLD"


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    text = WEB + f'auth = "bearer"\ntoken = {{file = "{tmp_path}/token"}}\n'
    peer = read(tmp_path, text).peer("MAIN")
    assert isinstance(peer, DicomwebPeer)
    assert peer.token is not None
    assert peer.token.reveal() == "abc"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[peers", "not TOML"),
        (WEB.replace("https", "ftp"), "http or https"),
        (WEB.replace("pacs.", "u:p@pacs."), "secrets do not belong"),
        (WEB + 'auth = "basic"\n', "needs username and password"),
        (WEB + 'auth = "bearer"\ntoken = {env = "NOT_SET"}\n', "NOT_SET is not set"),
        (BASIC.replace("https", "http"), "by https only"),
        (WEB + 'tls = {ca_file = "nowhere"}\n', "is not there"),
        (WEB + 'password = "plain"\n', "name it as"),
        (WEB + "colour = 1\n", "peers.MAIN.colour"),
        (DIMSE.replace("104", "0"), "peers.OLD.port"),
        (DIMSE.replace("ARCHIVE", "A" * 17), "peers.OLD.ae_title"),
        (DIMSE + 'retrieve = "move"\n', "move_port"),
        (DIMSE + "commitment_port = 5\ntls = {}\n", "needs `certificate` and `key`"),
        (LISTENER.replace("[[", "tls = {}\n[[") + RULE, "needs `certificate` and `key`"),
        (LISTENER + RULE + 'store_to = "MAIN"\n', "no such peer"),
        (LISTENER + RULE + 'calling = "MR1"\n', "not among `callers`"),
        (LISTENER + 'fixed = {}\nmoving = {modality = "CT"}\n', "name a description"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_with_it(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    assert said in caught.value.detail
    assert caught.value.detail.startswith("WARPLINE_PACS_FILE")
    assert "s3cret" not in caught.value.detail
    assert "plain" not in caught.value.detail


def test_no_file_is_a_mistake_and_no_setting_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Peers.of(Settings(pacs_file=tmp_path / "none.toml"))
    assert Peers.of(Settings()).by_name == {}


def test_a_peer_for_some_callers_is_unknown_to_others(tmp_path: Path) -> None:
    peers = read(tmp_path, WEB + 'callers = ["alice"]\n')
    assert peers.peer("MAIN", "alice") is peers.peer("MAIN")
    for name, owner in (("MAIN", "bob"), ("OTHER", "alice")):
        with pytest.raises(PacsUnknownError) as caught:
            peers.peer(name, owner)
        assert caught.value.detail == PacsUnknownError().detail


def test_the_example_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PACS_PASSWORD", "x")
    example = Path(__file__).parents[3] / "deploy" / "pacs.example.toml"
    peers = read(tmp_path, example.read_text("utf-8"))
    assert set(peers.by_name) == {"MAIN", "OLD"}
    assert peers.listener is not None
