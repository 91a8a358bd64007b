"""A cohort on a server: sent once, followed, and each result fetched as soon as it is there.

When this is stopped the server goes on; the same command takes the cohort up again.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli import screen
from service.cli.cohort_folder import Wanted, put, put_problem
from service.cli.cohort_list import Subject
from service.cli.cohort_shown import Shown
from service.cli.cohort_subject import SCRATCH
from service.cli.results import read_report
from service.errors import CohortNotFoundError, JobCancelledError, WarplineError
from service.registration.cohort.table import ENDED, Row

if TYPE_CHECKING:
    from service.client.rpc_sync import GrpcClient
    from service.client.sync import Client
    from service.client.views import Cohort, CohortSubject

KNOWN = ".cohort-server.json"
FIRST_LOOK_S, LONGEST_LOOK_S = 0.2, 3.0


def packed(files: dict[str, Path], scratch: Path, name: str) -> dict[str, Path]:
    """Files as they are sent: folders become archives, the same bytes each time."""
    from service.client.packing import pack

    return {
        role: pack(path, scratch / f"{name}-{role}.zip", are_names_kept=False)
        if path.is_dir()
        else path
        for role, path in files.items()
    }


@dataclass
class Served:
    """One cohort and the server that does it."""

    client: "Client | GrpcClient"
    url: str
    wanted: Wanted
    root: Path
    shown: Shown
    _over: set[str] = field(default_factory=set)

    def run(self, everybody: list[Subject], waiting: list[Subject], *, force: bool) -> None:
        """Have the waiting subjects done; goes on with a cohort that was ordered before."""
        digest = self._digest(everybody)
        cohort = None if force else self._known(digest)
        left = waiting
        while left:
            if cohort is None:
                cohort = self._order(left)
                told = {"url": self.url, "id": str(cohort.id), "digest": digest}
                (self.root / KNOWN).write_text(json.dumps(told), encoding="utf-8")
            self._follow(cohort, {subject.id: subject for subject in left})
            left = [one for one in left if one.id not in self._over]
            cohort = None
        (self.root / KNOWN).unlink(missing_ok=True)

    def _digest(self, everybody: list[Subject]) -> str:
        """Of all that is asked."""
        asked = [[one.id, self.wanted.inputs(one)] for one in everybody]
        asked.append([self.wanted.model_sha256, self.wanted.options.model_dump(mode="json")])
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def _known(self, digest: str) -> "Cohort | None":
        """The unfinished cohort that this folder was being filled from."""
        try:
            told = json.loads((self.root / KNOWN).read_bytes())
            if (told["url"], told["digest"]) != (self.url, digest):
                return None
            cohort = self.client.cohort(told["id"])
        except (OSError, ValueError, KeyError, CohortNotFoundError):
            return None
        return None if cohort.ended else cohort

    def _order(self, subjects: list[Subject]) -> "Cohort":
        terms: dict[str, Any] = self.wanted.options.model_dump(mode="json", exclude_none=True)
        files = {subject.id: subject.files for subject in subjects}
        return self.client.register_cohort(self.wanted.fixed, files, **terms)

    def _follow(self, cohort: "Cohort", mine: dict[str, Subject]) -> None:
        """Until every job has ended; results are fetched on the way."""
        from service.client.retrying import PATIENT_TRIES

        pause_s = FIRST_LOOK_S
        while True:
            cohort = self.client.cohort(cohort.id, tries=PATIENT_TRIES)
            before = len(self._over)
            for entry in cohort.table or ():
                row = Row.model_validate(entry.figures)
                if row.id in mine and row.id not in self._over:
                    self._heed(entry, row)
            if cohort.ended:
                return
            pause_s = FIRST_LOOK_S if len(self._over) > before else pause_s * 1.3
            time.sleep(min(pause_s, LONGEST_LOOK_S))

    def _heed(self, entry: "CohortSubject", row: Row) -> None:
        if row.state == "running":
            self.shown.told(row.id, "on the server", 0.0)
        if row.state not in ENDED:
            return
        self._over.add(row.id)
        if row.state == "done":
            row = self._fetched(entry, row)
        if row.state != "done":
            problem = row.problem or JobCancelledError().problem()
            put_problem(problem, self.root / row.id)
            row = row.model_copy(update={"problem": problem})
        self.shown.row(row)

    def _fetched(self, entry: "CohortSubject", row: Row) -> Row:
        scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=self.root))
        try:
            folder = scratch / "result"
            self.client.download(entry.job_id, folder)
            put(folder, self.root / row.id)
            return Row.of_report(row.id, read_report(self.root / row.id))
        except WarplineError as error:  # of one subject; the others go on
            return Row.of_problem(row.id, error.problem(), row.seconds)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def note_that_the_server_goes_on(root: Path) -> None:
    """What happens when this is stopped."""
    with suppress(OSError):
        if (root / KNOWN).exists():
            screen.note("The server goes on; the same command fetches the rest.")


def as_sent(subjects: list[Subject], scratch: Path) -> list[Subject]:
    """Subjects with the files that are sent."""
    return [replace(one, files=packed(one.files, scratch, one.id)) for one in subjects]
