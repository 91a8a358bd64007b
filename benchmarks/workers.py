"""What the workers of one machine do in an hour, and where their time goes.

    python -m benchmarks.workers FIXED MOVING [--jobs 10] [--arrangements 1x2,2x1,2x2] [--turns 3]

Starts Redis, PostgreSQL and an S3 server (Ceph) as the tests do, and workers with them; with
`--embedded` SQLite and a folder, without a broker. An arrangement is WORKERSxTHREADS, or
WORKERSxTHREADS@FOLDER for the code of another checkout; they take turns. Each worker has done two
jobs before any is timed. Printed are medians over the turns, for a job where nothing else is said.
Processor seconds are of the workers; those of the servers, and what others took of the cores, stand
beside them. `alone` is a single job, from its submission to its end, the shortest of three.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import psutil

from benchmarks.watched_worker import TRACE
from service.jobs.intake import Intake
from service.jobs.job import InputFile, Job, Kind, Request, State
from service.settings import Settings
from service.stores.build import Stores, open_stores
from service.stores.migrate import database_of, migrate
from tests import ceph
from tests.servers import REDIS_BINARIES, PostgresServer, RedisServer, free_port, postgres_binaries

STEPS = ("claim", "fetch", "register", "deliver", "commit", "beat")
SERVERS = ("redis", "valkey", "postgres", "ceph", "radosgw")
# So that the S3 server's memory does not fill: it keeps what is deleted for two hours otherwise.
FORGETFUL = "rgw gc obj min wait = 1\nrgw gc processor period = 2\nrgw gc processor max time = 2\n"
# Room for the results of a dozen pairs of 256 cubed.
HELD_BYTES = 8 << 30

Figures = dict[str, float]


@dataclass
class Workers:
    """Worker processes, and what they tell."""

    processes: list["subprocess.Popen[bytes]"]
    trace: Path

    def all(self) -> list[psutil.Process]:
        roots = [psutil.Process(process.pid) for process in self.processes]
        return roots + [child for root in roots for child in root.children(recursive=True)]

    @property
    def peak_mib(self) -> float:
        """The most that one process has held, pages of files included."""
        told = [Path(f"/proc/{process.pid}/status").read_text() for process in self.all()]
        return max(int(re.findall(r"VmHWM:\s+(\d+)", one)[0]) for one in told) / 1024

    def told(self, since: float) -> Figures:
        """Seconds in each step that ended since."""
        found: Figures = defaultdict(float)
        for line in self.trace.read_text().splitlines():
            name, at, seconds = json.loads(line)
            found[name] += seconds if at >= since else 0.0
        found["register"] = found.pop("fetch and register", 0.0) - found["fetch"]
        return found


@dataclass
class Bench:
    """Stores, a pair to register, and the servers' processes."""

    config: Settings
    stores: Stores
    folder: Path
    request: Request
    servers: list[psutil.Process]

    def submit(self) -> UUID:
        intake = Intake(self.stores.jobs, self.stores.doorbell, 10_000, 10_000, 3_600)
        return intake.submit(self.request, "benchmark")[0].id

    def ended(self, jobs: list[UUID]) -> list[Job]:
        """The jobs when all have ended."""
        until = time.monotonic() + 600
        while any(not self.stores.jobs.job(job_id).state.is_terminal for job_id in jobs):
            assert time.monotonic() < until, "the jobs take too long"
            time.sleep(0.02)
        ended = [self.stores.jobs.job(job_id) for job_id in jobs]
        assert all(job.state is State.SUCCEEDED for job in ended), [job.problem for job in ended]
        return ended

    def forget(self, jobs: list[UUID]) -> None:
        for job_id in jobs:
            self.stores.jobs.delete(job_id)
            self.stores.blobs.delete(self.stores.blobs.list(f"jobs/{job_id}/"))

    def environment(self, threads: int, trace: Path) -> dict[str, str]:
        values = self.config.model_dump(exclude_defaults=True, mode="json") | {"threads": threads}
        for name in ("s3_access_key", "s3_secret_key"):
            if (secret := getattr(self.config, name)) is not None:
                values[name] = secret.get_secret_value()
        ours = {f"WARPLINE_{name.upper()}": str(value) for name, value in values.items()}
        return os.environ | ours | {TRACE: str(trace)}


@contextmanager
def workers_of(bench: Bench, arrangement: str) -> Iterator[Workers]:
    what, _, code = arrangement.partition("@")
    count, threads = map(int, what.split("x"))
    trace = bench.folder / f"{uuid4().hex}.jsonl"
    trace.touch()
    command = [sys.executable, "-m", "benchmarks.watched_worker"]
    env = bench.environment(threads, trace)
    with (bench.folder / "workers.log").open("ab") as log:
        started = [
            subprocess.Popen(command, env=env, cwd=code or None, stdout=log, stderr=log)
            for _ in range(count)
        ]
    try:
        yield Workers(started, trace)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def processor_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def turn(bench: Bench, arrangement: str, jobs: int) -> Figures:
    """Start workers, warm them up, and give them single jobs and then many at once."""
    with workers_of(bench, arrangement) as workers:
        done = [bench.submit() for _ in range(2 * len(workers.processes))]
        bench.ended(done)
        alone = []
        for _ in range(3):
            (job,) = bench.ended([bench.submit()])
            assert job.finished_at is not None
            alone.append((job.finished_at - job.created_at).total_seconds())
            done.append(job.id)
        bench.forget(done)
        found = many(bench, workers, jobs)
        return found | {"alone": min(alone), "peak MiB of a worker": workers.peak_mib}


def many(bench: Bench, workers: Workers, jobs: int) -> Figures:
    time.sleep(1)  # what was deleted is cleared away
    spent, served = processor_seconds(workers.all()), processor_seconds(bench.servers)
    idle, since, began = psutil.cpu_times().idle, time.time(), time.perf_counter()
    submitted = [bench.submit() for _ in range(jobs)]
    bench.ended(submitted)
    wall = time.perf_counter() - began
    spent = processor_seconds(workers.all()) - spent
    served = processor_seconds(bench.servers) - served
    idle, cores = psutil.cpu_times().idle - idle, wall * (psutil.cpu_count() or 1)
    told = workers.told(since)
    bench.forget(submitted)
    return {
        "pairs an hour": 3600 * jobs / wall,
        "seconds": wall / jobs,
        "processor s": spent / jobs,
        "of servers": served / jobs,
        "share of cores": spent / cores,
        "of others": max(0.0, 1 - (idle + spent + served) / cores),
    } | {name: told.get(name, 0.0) / jobs for name in STEPS}


@contextmanager
def servers(folder: Path) -> Iterator[tuple[Settings, list[psutil.Process]]]:
    """Redis, PostgreSQL and Ceph: settings that lead to them, and their processes."""
    binaries = postgres_binaries()
    redis = next(filter(None, map(shutil.which, REDIS_BINARIES)), None)
    if binaries is None or redis is None or not ceph.CephS3.is_installed():
        raise SystemExit("Redis, PostgreSQL and Ceph are needed; CONTRIBUTING.md names packages.")
    ceph.CONFIG += FORGETFUL
    (folder / "ceph").mkdir()
    broker = RedisServer(redis, folder)
    database = PostgresServer(binaries, folder / "cluster")
    objects = ceph.CephS3(folder / "ceph", free_port(), free_port(), held_bytes=HELD_BYTES)
    before = set(psutil.pids())
    with ExitStack() as running:
        stops = ((broker, broker.kill), (database, database.stop), (objects, objects.stop))
        for server, stop in stops:
            running.callback(stop)
            server.start()
        config = Settings(
            data_dir=folder / "data",
            database_url=database.new_database(),
            redis_url=broker.url,
            store_url=f"s3://{objects.new_bucket()}",
            s3_endpoint=objects.endpoint,
            s3_access_key=objects.access_key,
            s3_secret_key=objects.secret_key,
        )
        migrate(database_of(config))
        new = [process for process in psutil.process_iter(["name"]) if process.pid not in before]
        yield config, [one for one in new if one.info["name"].startswith(SERVERS)]


def table(found: dict[str, list[Figures]]) -> str:
    """Medians, an arrangement a row."""
    names = list(next(iter(found.values()))[0])
    lines = ["| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
    for arrangement, turns in found.items():
        cells = [statistics.median(one[name] for one in turns) for name in names]
        shown = [f"{cell:.0f}" if cell >= 100 else f"{cell:.3f}" for cell in cells]
        lines.append(f"| {arrangement} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--arrangements", default="1x2,2x1,2x2")
    parser.add_argument("--embedded", action="store_true")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user where this one is root
        if chosen.embedded:
            config, others = Settings(data_dir=folder / "data"), []
        else:
            config, others = running.enter_context(servers(folder))
        stores = open_stores(config)
        running.callback(stores.close)
        inputs = {}
        for role in ("fixed", "moving"):
            data = getattr(chosen, role).read_bytes()
            stores.blobs.put_bytes(f"uploads/{role}/data", data)
            inputs[role] = InputFile(key=f"uploads/{role}/data", sha256=sha256(data).hexdigest())
        bench = Bench(config, stores, folder, Request(kind=Kind.REGISTER, inputs=inputs), others)
        found: dict[str, list[Figures]] = defaultdict(list)
        for _ in range(chosen.turns):
            for arrangement in chosen.arrangements.split(","):
                found[arrangement].append(turn(bench, arrangement, chosen.jobs))
                print(arrangement, found[arrangement][-1], file=sys.stderr, flush=True)
        print(table(found))


if __name__ == "__main__":
    main()
