"""The pace at which the job table is asked."""

import itertools

from service.gateway.pace import FIRST_PAUSE_S, pause_s


def looks(until_s: float, longest_s: float) -> tuple[int, float]:
    """How often one looks until then, and the last pause."""
    now = pause = 0.0
    for count in itertools.count():
        if now >= until_s:
            return count, pause
        pause = pause_s(now, longest_s)
        now += pause
    raise AssertionError


def test_a_quick_job_is_seen_soon_and_a_long_one_costs_few_looks() -> None:
    assert pause_s(0, 0.5) == FIRST_PAUSE_S
    count, pause = looks(1.2, 0.5)
    assert count <= 25
    assert pause <= 0.08
    assert looks(60, 0.5)[0] <= 170
    assert pause_s(3600, 0.25) == 0.25
