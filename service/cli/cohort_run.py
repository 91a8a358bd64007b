"""Carries a cohort out: what is done already is left, the rest is done here or on a server."""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from service.cli.cohort_folder import CohortFolder, Wanted
from service.cli.cohort_list import Subject
from service.cli.cohort_processes import Crew, run_here
from service.cli.cohort_shown import Shown, showing
from service.cli.cohort_subject import Terms, clear_scratch
from service.cli.shared_options import connect
from service.cores import usable_cores
from service.registration.cohort.table import Row
from service.registration.options import RegisterOptions


@dataclass
class Run:
    """One cohort and its folder."""

    fixed: dict[str, Path]
    options: RegisterOptions
    root: Path
    subjects: list[Subject]
    force: bool = False
    folder: CohortFolder = field(init=False)

    def __post_init__(self) -> None:
        self.folder = CohortFolder.of(self.root, self.subjects)

    def here(self, jobs: int, *, is_shown: bool) -> None:
        """Register in this process, or in `jobs` processes of this machine."""
        clear_scratch(self.root)
        wanted = Wanted(self.fixed, self.options, _model_sha256(self.options.model))
        waiting = self.waiting(wanted, self.subjects)
        terms = Terms(self.fixed, self.options, self.root)
        try:
            with showing(self.folder, is_shown=is_shown) as shown:
                if waiting:
                    _register(terms, waiting, jobs, shown)
        except KeyboardInterrupt:
            self.waiting(wanted, self.subjects)  # a result that was put and not yet told is kept
            raise
        finally:
            self.folder.write_page()

    def there(self, server: tuple[str, str | None], *, is_shown: bool) -> None:
        """Have a server do it, by REST or by gRPC, and fetch each result."""
        from service.cli import cohort_server

        clear_scratch(self.root)
        with connect(*server) as client, TemporaryDirectory(prefix="warpline-send-") as scratch:
            card = client.model(self.options.model)
            fixed = cohort_server.packed(self.fixed, Path(scratch), "fixed")
            everybody = cohort_server.as_sent(self.subjects, Path(scratch))
            wanted = Wanted(fixed, self.options, card["card"]["sha256"])
            waiting = self.waiting(wanted, everybody)
            try:
                with showing(self.folder, is_shown=is_shown) as shown:
                    served = cohort_server.Served(client, server[0], wanted, self.root, shown)
                    served.run(everybody, waiting, force=self.force)
            except KeyboardInterrupt:
                cohort_server.note_that_the_server_goes_on(self.root)
                raise
            finally:
                self.folder.write_page()

    def waiting(self, wanted: Wanted, subjects: list[Subject]) -> list[Subject]:
        """The subjects that are not done yet; those that are get their rows."""
        if self.force:
            return subjects
        left = []
        for subject in subjects:
            report = wanted.is_met(self.root / subject.id, subject)
            if report is None:
                left.append(subject)
            else:
                self.folder.rows[subject.id] = Row.of_report(subject.id, report)
        return left


def _register(terms: Terms, waiting: list[Subject], jobs: int, shown: Shown) -> None:
    from service.cli.kernels import note_first_run

    note_first_run()
    if jobs == 1:
        run_here(terms, waiting, shown)
    else:
        threads = max(1, usable_cores() // jobs)
        Crew(terms, jobs, shown, threads).run(waiting)


def _model_sha256(ref: str) -> str:
    """Of the model that will be used.

    Raises:
        ModelNotFoundError: If there is none.
    """
    from service.cli.models_here import library_here
    from service.registration.models_folder import ModelFolder
    from service.settings import Settings

    settings = Settings()
    with library_here(settings) as library:
        models = ModelFolder(settings.models_dir) if library is None else library
        return models.card(ref).sha256
