"""The embedded stack's parts that need no process."""

import socket
from pathlib import Path
from typing import Any

import pytest

from service import standalone
from service.errors import ConfigurationError
from service.settings import Settings
from service.standalone import Child, Stack, child_environment, lock_folder


def test_a_child_reads_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "a" * 64
    chosen = Settings(
        data_dir=tmp_path, port=1234, api_keys=f"alice:{digest}", threads=3, lease_s=7.5
    )
    for name, value in child_environment(chosen).items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == chosen


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("service.standalone.usable_cores", lambda: 8)
    assert child_environment(Settings(data_dir=tmp_path, workers=3))["WARPLINE_THREADS"] == "2"
    assert child_environment(Settings(data_dir=tmp_path, workers=9))["WARPLINE_THREADS"] == "1"


def test_nothing_else_of_ours_reaches_a_child(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WARPLINE_REDIS_URL", "redis://elsewhere")
    assert "WARPLINE_REDIS_URL" not in child_environment(Settings(redis_url=None))


def test_back_off_doubles_up_to_its_limit_and_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(standalone.time, "monotonic", lambda: now[0])
    child = Child("worker-1", "worker", tmp_path / "log", started_at=1000.0)
    waits = [child.note_death() for _ in range(8)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    now[0] += standalone.STEADY_AFTER_S + 1
    assert child.note_death() == 0.5


def test_a_folder_has_one_stack(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    with pytest.raises(ConfigurationError, match="Another"):
        lock_folder(tmp_path)
    first.close()
    lock_folder(tmp_path).close()


def test_the_last_lines_of_a_log_are_shown(tmp_path: Path) -> None:
    child = Child("gateway", "gateway", tmp_path / "gateway.log")
    assert child.last_lines() == []
    child.log.write_text("".join(f"line {n}\n" for n in range(100)))
    assert child.last_lines(2) == ["line 98", "line 99"]


def test_port_zero_becomes_a_free_port(tmp_path: Path) -> None:
    stack = Stack(Settings(data_dir=tmp_path, port=0))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", stack.port))
    assert stack.url == f"http://127.0.0.1:{stack.port}"


def test_a_child_that_cannot_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "FIRST_BACK_OFF_S", 0.01)
    monkeypatch.setattr(standalone, "READY_WITHIN_S", 300.0)  # a busy machine starts it slowly
    settings = Settings(data_dir=tmp_path, port=0, database_url="nonsense://")
    with pytest.raises(ConfigurationError, match="cannot start"), Stack(settings):
        pass
    lock_folder(tmp_path).close()


@pytest.mark.parametrize(("installed", "faces"), [(True, 1), (False, 0)])
def test_a_trainer_is_started_where_one_is_installed(
    installed: bool, faces: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "is_trainer_installed", lambda: installed)
    stack = Stack(Settings(data_dir=tmp_path, port=0))
    planned = stack._planned()
    assert [child.face for child in planned].count("trainer") == faces
    environment = child_environment(stack.settings)
    assert environment["WARPLINE_TRAINING"] == str(installed), "the gateway must know"


def test_no_trainer_is_started_where_the_operator_wants_none(tmp_path: Path) -> None:
    stack = Stack(Settings(data_dir=tmp_path, port=0, training=False))
    assert "trainer" not in [child.face for child in stack._planned()]


def test_grpc_takes_the_next_port_and_live_sessions_ports_of_their_own(tmp_path: Path) -> None:
    stack = Stack(Settings(data_dir=tmp_path, port=0))
    chosen = stack.settings
    assert stack.grpc_target == f"127.0.0.1:{chosen.grpc_port}"
    ports = (chosen.port, chosen.grpc_port, chosen.live_port, chosen.live_http_port)
    assert len(set(ports)) == 4
    assert chosen.live_address == f"127.0.0.1:{chosen.live_port}"
    assert [child.face for child in stack._planned()].count("live") == 1
    environment = child_environment(chosen)
    assert environment["WARPLINE_GRPC_PORT"] == str(chosen.grpc_port)
    assert environment["WARPLINE_LIVE_ADDRESS"] == chosen.live_address


@pytest.mark.parametrize(
    ("given", "has_grpc"),
    [({"grpc_port": 0}, False), ({"live": False}, True), ({"live_address": "scanner:9"}, True)],
)
def test_no_live_process_where_none_is_wanted_or_another_is_named(
    given: dict[str, Any], has_grpc: bool, tmp_path: Path
) -> None:
    stack = Stack(Settings(data_dir=tmp_path, port=0, **given))
    assert "live" not in [child.face for child in stack._planned()]
    assert (stack.grpc_target is not None) == has_grpc
    assert stack.settings.live_address == given.get("live_address")


def test_a_grpc_port_that_is_taken_is_told_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(data_dir=tmp_path, port=0, grpc_port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="--grpc-port"), Stack(settings):
            pass
