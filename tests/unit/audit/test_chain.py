"""The audit log: whole while nobody touched it, and found out when somebody did."""

import errno
import json
import os
import subprocess
import sys

import pytest

from service.audit import log as writing
from service.audit.chain import Head, head_file, rotated_files
from service.audit.log import AuditLog
from service.audit.verify import verify
from service.errors import AuditChainError, AuditUnavailableError, JobNotFoundError

KEY = b"secret"


@pytest.fixture
def log(tmp_path):
    made = AuditLog(tmp_path / "deep" / "audit.jsonl", KEY)
    for n in range(6):
        made.note("alice", "submit", {"job": n})
    return made


def lines_of(log):
    return log.path.read_bytes().splitlines(keepends=True)


def problem(log, **more):
    with pytest.raises(AuditChainError) as caught:
        verify(log.path, more.pop("key", KEY), **more)
    return caught.value.detail


def test_says_who_did_what_when_and_how_it_ended(log):
    with log.action("bob", "read", file="ddf.nii.gz") as what:
        what["bytes"] = 7
    with pytest.raises(JobNotFoundError), log.action("bob", "delete", job="j"):
        raise JobNotFoundError
    done, refused = [json.loads(line) for line in lines_of(log)[-2:]]
    assert (done["who"], done["did"], done["outcome"]) == ("bob", "read", "done")
    assert done["what"] == {"file": "ddf.nii.gz", "bytes": 7}
    assert (refused["n"], refused["did"], refused["outcome"]) == (8, "delete", "job-not-found")
    assert refused["at"].endswith("+00:00")
    assert verify(log.path, KEY).records == 8


def test_a_changed_record_is_found(log):
    lines = lines_of(log)
    lines[2] = lines[2].replace(b"alice", b"alicf")
    log.path.write_bytes(b"".join(lines))
    assert problem(log) == "File 1, line 3: Record 3 was changed, or the key is another."


@pytest.mark.parametrize("gone", range(5))
def test_a_removed_record_is_found(log, gone):
    lines = lines_of(log)
    del lines[gone]
    log.path.write_bytes(b"".join(lines))
    assert f"line {gone + 1}: Record {gone + 2} stands where {gone + 1} belongs" in problem(log)


def test_an_inserted_record_is_found(log):
    lines = lines_of(log)
    log.path.write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))
    assert "line 4: Record 3 stands where 4 belongs" in problem(log)


def test_exchanged_records_are_found(log):
    lines = lines_of(log)
    lines[1], lines[2] = lines[2], lines[1]
    log.path.write_bytes(b"".join(lines))
    assert "line 2: Record 3" in problem(log)


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_records_cut_off_at_the_end_are_found(log, kept):
    log.path.write_bytes(b"".join(lines_of(log)[:kept]))
    assert problem(log) == f"Records {kept + 1} to 6 are missing at the end of the log."
    log.note("alice", "submit")  # and they stay missed when the log goes on
    assert f"Record 7 stands where {kept + 1} belongs" in problem(log)


def test_half_a_record_at_the_end_is_found(log):
    log.path.write_bytes(log.path.read_bytes()[:-9])
    assert "File 1, line 6" in problem(log)


def test_the_whole_log_gone_is_found(log):
    log.path.unlink()
    assert problem(log) == "Records 1 to 6 are missing at the end of the log."


def test_without_the_key_no_chain_verifies(tmp_path, log):
    forged = AuditLog(log.path.with_name("forged.jsonl"))
    forged.note("mallory", "nothing")
    assert "Record 1 was changed" in problem(forged)
    assert "Record 1 was changed" in problem(log, key=b"other")


def test_a_process_that_died_while_writing_costs_nothing(log):
    head = head_file(log.path).read_bytes()
    log.note("alice", "submit", {"job": "whole"})
    head_file(log.path).write_bytes(head)  # it died before the head was written
    with log.path.open("ab") as file:
        file.write(b'{"n":8,"at":"2026')  # another, in the midst of its record
    log.note("alice", "submit", {"job": "next"})
    assert [json.loads(line)["n"] for line in lines_of(log)] == list(range(1, 9))
    assert verify(log.path, KEY).records == 8


def test_the_chain_goes_on_through_rotation(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", rotate_bytes=600)
    for n in range(10):
        log.note("alice", "submit", {"job": n})
    files = rotated_files(log.path)
    assert len(files) > 1
    whole = verify(log.path)
    assert (whole.records, whole.files) == (10, len(files) + log.path.exists())
    first = json.loads(files[0].read_bytes().splitlines()[-1])
    files[0].unlink()
    with pytest.raises(AuditChainError, match="File 1, line 1: Record"):
        verify(log.path)
    rest = verify(log.path, after=Head(first["n"], first["hash"]))
    assert rest.records == 10 - first["n"]


def test_writers_in_several_processes_make_one_chain(tmp_path):
    script = (
        "import sys; from pathlib import Path; from service.audit.log import AuditLog\n"
        "log = AuditLog(Path(sys.argv[1]), b'secret', rotate_bytes=9000)\n"
        "for n in range(60): log.note(sys.argv[2], 'submit', {'job': n})"
    )
    path = tmp_path / "audit.jsonl"
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(path), f"p{n}"]) for n in range(4)
    ]
    assert [process.wait(300) for process in running] == [0] * 4
    assert verify(path, KEY).records == 240


def test_a_full_disk_is_counted_and_stops_nothing_unless_it_must(log, monkeypatch, caplog):
    def full(_descriptor, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "write", full)
        log.note("alice", "submit")
        log.note("alice", "submit")
        log.is_required = True
        with pytest.raises(AuditUnavailableError):
            log.note("alice", "submit")
        with pytest.raises(JobNotFoundError), log.action("alice", "read"):
            raise JobNotFoundError
    assert "No space left" in caplog.text
    log.note("alice", "submit")
    assert json.loads(lines_of(log)[-1])["lost"] == 4
    assert verify(log.path, KEY).records == 7


def test_half_a_record_on_a_full_disk_is_taken_back(log, monkeypatch):
    write, calls = os.write, []

    def part(descriptor, data):
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:20])

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "write", part)
        log.note("alice", "submit")
    assert verify(log.path, KEY).records == 6


def test_a_uid_has_the_same_pseudonym_and_no_other_key_gives_it(log, tmp_path):
    other = AuditLog(tmp_path / "other", b"else")
    assert log.pseudonym("1.2.3") == log.pseudonym("1.2.3") != other.pseudonym("1.2.3")
    assert "1.2.3" not in log.pseudonym("1.2.3")
