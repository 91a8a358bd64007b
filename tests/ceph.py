"""A real S3 server on loopback: one Ceph monitor, one in-memory OSD, one RADOS gateway.

Other servers that are easy to install accept tampered signatures, and so prove nothing.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import obstore
from obstore.store import S3Store

PATIENCE_S = 200  # of a busy machine
PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw")
CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
mon initial members = a
keyring = {ring}
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[mon.a]
mon data = {folder}/mon
auth allow insecure global id reclaim = false
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {held_bytes}
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


@dataclass
class CephS3:
    """Needs Debian's radosgw, ceph-mon, ceph-osd and ceph-common; up in about twenty seconds."""

    folder: Path
    port: int
    mon_port: int
    access_key: str = "WARPLINETEST"
    secret_key: str = "warpline-test-secret"
    held_bytes: int = 2 << 30
    """In memory, deleted objects too until they are cleared away; a write waits when it is full."""

    @staticmethod
    def is_installed() -> bool:
        return all(shutil.which(program) for program in (*PROGRAMS, "radosgw-admin"))

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def _ring(self) -> Path:
        return self.folder / "keyring"

    def start(self) -> None:
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        fsid = str(uuid4())
        text = CONFIG.format(
            fsid=fsid,
            mon_port=self.mon_port,
            ring=self._ring,
            folder=self.folder,
            held_bytes=self.held_bytes,
            port=self.port,
        )
        (self.folder / "ceph.conf").write_text(text)
        self._start_monitor(fsid)
        self._start_storage()
        self._start_gateway()
        self._admin(f"--access-key={self.access_key}", f"--secret={self.secret_key}")

    def _start_monitor(self, fsid: str) -> None:
        make = ("ceph-authtool", str(self._ring), "--gen-key", "--cap", "mon", "allow *")
        self._run(*make, "-C", "-n", "mon.", plain=True)
        self._run(*make, "-n", "client.admin", "--cap", "osd", "allow *", plain=True)
        monmap = str(self.folder / "monmap")
        address = f"[v1:127.0.0.1:{self.mon_port}]"
        self._run(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap, plain=True
        )
        monitor = ("ceph-mon", "-i", "a")
        self._run(*monitor, "--mkfs", "--monmap", monmap, "--keyring", str(self._ring))
        self._run(*monitor)
        time.sleep(1)

    def _start_storage(self) -> None:
        uuid = str(uuid4())
        self._run("ceph", "osd", "new", uuid)
        ring = str(self.folder / "osd" / "keyring")
        caps = ("mon", "allow profile osd", "osd", "allow *")
        self._run("ceph", "auth", "get-or-create", "osd.0", *caps, "-o", ring)
        storage = ("ceph-osd", "-i", "0", "--keyring", ring)
        self._run(*storage, "--mkfs", "--osd-uuid", uuid)
        self._run(*storage)

    def _start_gateway(self) -> None:
        caps = ("mon", "allow rw", "osd", "allow rwx")
        key = self._run("ceph", "auth", "get-or-create", "client.rgw", *caps)
        with self._ring.open("ab") as ring:
            ring.write(key)
        time.sleep(2)
        self._run("radosgw", "-n", "client.rgw", "--keyring", str(self._ring))
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.2)
        raise TimeoutError("radosgw does not listen")

    def _admin(self, *keys: str) -> None:
        user = ("user", "create", "--uid=warpline", "--display-name=warpline")
        self._run("radosgw-admin", *user, *keys)

    def _run(self, program: str, *arguments: str, plain: bool = False) -> bytes:
        config = () if plain else ("-c", str(self.folder / "ceph.conf"))
        command = [program, *config, *arguments]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr.decode()[-500:]}")
        return done.stdout

    def stop(self) -> None:
        for pid_file in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError, FileNotFoundError):
                os.kill(int(pid_file.read_text()), signal.SIGKILL)

    def new_bucket(self) -> str:
        """An empty bucket's name."""
        name = f"test-{uuid4().hex[:12]}"
        store = S3Store(
            name,
            config={
                "endpoint": self.endpoint,
                "region": "us-east-1",
                "access_key_id": self.access_key,
                "secret_access_key": self.secret_key,
            },
            client_options={"allow_http": True},
        )
        # obstore makes no buckets, but a signed PUT of the bucket's own address does.
        url = obstore.sign(store, "PUT", "", timedelta(minutes=5))
        httpx.put(url, timeout=PATIENCE_S).raise_for_status()
        return name
