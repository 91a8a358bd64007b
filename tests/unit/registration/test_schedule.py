"""Stages are chosen by what they took before and what is left of the budget."""

from service.registration.schedule import RESERVE, Costs, Schedule


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_costs_go_up_at_once_and_down_slowly() -> None:
    costs = Costs()
    assert costs.of("refine") == 0
    costs.learn({"refine": 1.0, "warp": 0.5})
    costs.learn({"refine": 2.0})
    assert costs.of("refine", "warp") == RESERVE * 2.5
    costs.learn({"refine": 1.0})
    assert 1.8 * RESERVE < costs.of("refine") < 2.0 * RESERVE


def test_a_stage_is_allowed_when_it_and_what_must_follow_fit() -> None:
    costs, clock = Costs(), Hands()
    costs.learn({"search": 1.0, "warp": 1.0})
    schedule = Schedule(costs, 4.0, clock=clock)
    assert schedule.allows("search", afterwards=("warp",))
    assert not schedule.is_cut_short
    clock.now_s += 2.0
    assert schedule.left_s("warp") == 2.0 - RESERVE
    assert not schedule.allows("search", afterwards=("warp",))
    assert schedule.is_cut_short


def test_what_is_left_out_is_tried_again_after_a_while() -> None:
    costs, clock = Costs(), Hands()
    costs.learn({"search": 1.0})
    tries = 0
    while not Schedule(costs, 0.8, clock=clock).allows("search", afterwards=()):
        tries += 1
    assert 10 < tries < 50


def test_without_a_budget_everything_is_allowed() -> None:
    costs = Costs()
    costs.learn({"search": 1e9})
    assert Schedule(costs, None).allows("search", afterwards=("search",))
