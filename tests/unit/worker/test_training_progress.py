"""A trainer's events as progress: whatever it says, what is stored is small and finite."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.jobs.job import Progress
from service.worker.training_progress import Told

NUMBERS = st.floats() | st.integers() | st.just(10**400)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)
EVENTS = st.fixed_dictionaries(
    {"event": st.sampled_from(["step", "validation", "stage", "picture"]) | ANYTHING},
    optional={
        "step": NUMBERS | ANYTHING,
        "steps": NUMBERS | ANYTHING,
        "epoch": NUMBERS,
        "seconds_left": NUMBERS,
        "stage": st.sampled_from(["export", "evaluate", "nonsense"]) | ANYTHING,
        "losses": st.dictionaries(st.text(max_size=80), NUMBERS, max_size=40),
        "figures": st.dictionaries(st.text(max_size=80), NUMBERS, max_size=40) | ANYTHING,
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # of a busy machine
@given(st.lists(EVENTS, max_size=6))
def test_whatever_is_told_makes_a_progress(events: list[dict[str, Any]]) -> None:
    told = Told()
    for event in events:
        told.hear(event)
        made = Progress(stage=told.stage, fraction=told.fraction, detail=told.detail())
        json.dumps(made.detail, allow_nan=False)


def test_steps_move_the_fraction_and_stages_go_on_from_there() -> None:
    told, seen = Told(), []
    for event in (
        {"event": "step", "step": 1, "steps": 4, "epoch": 1, "losses": {"total": 0.123456789}},
        {"event": "step", "step": 4, "steps": 4, "epoch": 2, "losses": {}},
        {"event": "stage", "stage": "export"},
        {"event": "stage", "stage": "evaluate"},
    ):
        told.hear(event)
        seen.append((told.stage, round(told.fraction, 3)))
    assert seen == [("train", 0.24), ("train", 0.9), ("export", 0.9), ("evaluate", 0.93)]


def test_figures_are_renewed_seldom_but_at_once_with_a_new_stage() -> None:
    now = [100.0]
    told = Told(clock=lambda: now[0])
    told.hear(
        {"event": "step", "step": 1, "steps": 9, "epoch": 1, "losses": {"total": 0.123456789}}
    )
    assert told.detail()["losses"] == {"total": 0.123457}
    told.hear({"event": "step", "step": 2, "steps": 9, "epoch": 2})
    assert told.detail()["epoch"] == 1
    now[0] += 1.1
    assert told.detail()["epoch"] == 2
    now[0] += 5000
    assert told.detail()["epoch"] == 2
    told.hear({"event": "step", "step": 3, "steps": 9, "epoch": 3})
    now[0] += 5
    assert told.detail()["epoch"] == 2, "after hours, every ten seconds are enough"
    told.hear({"event": "stage", "stage": "export"})
    assert told.detail()["epoch"] == 3
