"""Warpline beside what people use, on the same pairs, from files to files, in one run.

    python -m venv .venv-peers && .venv-peers/bin/pip install -r benchmarks/peers.txt
    python -m benchmarks.peers --data ../shared/data --python .venv-peers/bin/python

Every system gets two threads, raw native-space images and the moving labels, and writes the warped
image and labels to disk; what is timed is everything between the files. One metric code scores all.
Each system has a process of its own: ours stays, as in a worker, and registers a pair before
anything is timed; another is started for each pair, and its start is not timed. `-cli` is a new
process for each pair, timed from its start to its end.

Rows are kept in `--results` as they come. Run again, what is there is not run again, so a stopped
run goes on; `--again` replaces the rows of the systems and pairs that are named. A system that
fails, or has no answer after `--limit` seconds, is told as such, and the others go on. Named twice
(`warpline,ants-syn,warpline`), a system runs twice on each pair, in this order.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.comparison.cases import Case, few, listed
from benchmarks.comparison.more_cases import MORE
from benchmarks.comparison.plot import plot
from benchmarks.comparison.registry import SYSTEMS, chosen
from benchmarks.comparison.results import Row, read
from benchmarks.comparison.running import Terms, compare
from benchmarks.comparison.tables import summary, tables

HERE = Path(__file__).parent
LISTED = ("brain_malf35", "hippocampus_msd", "liver_4dmri_eth", "lung_ct_elastix")


def cases(data: Path, category: str, made: Path) -> list[Case]:
    """The pairs of a set."""
    if category in MORE:
        return MORE[category](data, made)
    return listed(data, category, made)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with pairs.csv; without it only tables")
    parser.add_argument(
        "--sets", nargs="*", default=["brain_malf35"], help=f"of {', '.join((*LISTED, *MORE))}"
    )
    parser.add_argument("--systems", default="warpline,ants-syn,greedy,warpline")
    parser.add_argument("--pairs", type=int, help="only the first ones of each set")
    parser.add_argument("--python", default=sys.executable, help="the Python that peers run in")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for a pair")
    parser.add_argument("--results", type=Path, default=HERE / "peers.jsonl")
    parser.add_argument("--again", action="store_true", help="replace rows that are there")
    parser.add_argument("--log", type=Path, help="what the systems print")
    parser.add_argument("--plot", type=Path, help="draw the first of the sets into this SVG file")
    parser.epilog = "systems: " + ", ".join(SYSTEMS)
    return parser.parse_args()


def main() -> None:
    """Run, then show everything that is known of the sets."""
    asked = arguments()
    systems = chosen(asked.systems)
    rows: list[Row] = []
    if asked.data is not None:
        log = asked.log or Path(tempfile.gettempdir()) / "warpline-peers.log"
        terms = Terms(asked.python, log, asked.limit, asked.again)
        with tempfile.TemporaryDirectory() as made:
            for category in asked.sets:
                pairs = few(cases(asked.data.resolve(), category, Path(made)), asked.pairs)
                compare(systems, pairs, asked.results, terms)
    rows = [row for row in read(asked.results) if row.category in asked.sets]
    print(tables(rows))
    if len(asked.sets) > 1:
        print(summary(rows))
    if asked.plot is not None:
        asked.plot.write_text(plot([row for row in rows if row.category == asked.sets[0]]))


if __name__ == "__main__":
    main()
