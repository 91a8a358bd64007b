"""Tables and the plot of a comparison."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from benchmarks.comparison.plot import Axes, Dot, dots, in_common, plot
from benchmarks.comparison.registry import SYSTEMS, chosen
from benchmarks.comparison.results import Row
from benchmarks.comparison.tables import summary, tables


def row(system: str, case: str, seconds: float, dice: float, turn: int = 0) -> Row:
    return Row("brains", case, system, turn, "ok", seconds, 2 * seconds, 0.5, {"Dice": dice})


ROWS = [
    row("ants-syn", "a", 30.0, 0.55),
    row("ants-syn", "b", 40.0, 0.57),
    row("warpline", "a", 0.9, 0.61),
    row("warpline", "a", 1.1, 0.61, turn=1),
    row("warpline", "b", 2.0, 0.63),
    Row("brains", "a", "greedy", status="too slow"),
    row("greedy", "b", 20.0, 0.64),
    Row("brains", "a", "voxelmorph", seconds=1.5),
    Row("brains", "b", "elastix", status="failed", error="..."),
]


def test_a_table_has_a_line_for_each_system_with_medians_over_the_pairs() -> None:
    lines = tables(ROWS).splitlines()
    assert lines[0] == "**brains**: Dice"
    assert lines[2:] == [
        "|  | a | b | median of 2 | seconds | processor seconds | peak, GiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| Warpline, default | 0.610 | 0.630 | 0.620 | 1.5 | 3 | 0.5 |",
        "| ANTs SyN | 0.550 | 0.570 | 0.560 | 35 | 70 | 0.5 |",
        "| greedy | too slow | 0.640 | 0.640 (1 of 2) | 20 | 40 | 0.5 |",
        "| elastix |  | failed | – | – | – | – |",
        "| VoxelMorph-torch, untrained, forward alone | – |  | – | 1.5 | – | – |",
    ]


def test_the_summary_has_a_column_for_each_set() -> None:
    lung = Row("lung", "x", "greedy", processor_seconds=1.5, measures={"TRE, mm": 1.6})
    assert summary([*ROWS[:5], lung]).splitlines() == [
        "|  | brains: Dice | lung: TRE, mm |",
        "|---|---:|---:|",
        "| Warpline, default | 0.620, 3 s |  |",
        "| ANTs SyN | 0.560, 70 s |  |",
        "| greedy |  | 1.60, 1.5 s |",
    ]


def test_many_pairs_are_told_by_their_median_alone() -> None:
    lines = tables([row("greedy", str(n), 1.0, n / 10) for n in range(5)]).splitlines()
    assert lines[2].startswith("|  | median of 5 | seconds |")
    assert lines[4].startswith("| greedy | 0.200 | 1 |")


def test_the_plot_has_a_dot_and_a_name_for_each_system_with_both_figures() -> None:
    picture = ET.fromstring(plot(ROWS))  # noqa: S314
    names = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == 3
    assert {"Warpline, default", "ANTs SyN", "greedy"} <= set(names)
    assert "prefers-color-scheme: dark" in plot(ROWS)
    assert "VoxelMorph" not in plot(ROWS)


def test_faster_is_further_left_and_better_higher() -> None:
    shown = dots(ROWS, "Dice")
    axes = Axes.around(shown)
    fast, slow = shown[0], shown[1]
    assert (fast.system, slow.system) == ("warpline", "ants-syn")
    assert axes.x(fast.seconds) < axes.x(slow.seconds)
    assert axes.y(fast.value) < axes.y(slow.value)


def test_names_of_neighbours_do_not_touch() -> None:
    close = [row(name, "a", 10.0, 0.6) for name in ("greedy", "elastix", "ants-syn")]
    picture = ET.fromstring(plot(close))  # noqa: S314
    texts = picture.iter("{http://www.w3.org/2000/svg}text")
    heights = sorted(float(text.get("y", "0")) for text in texts if text.get("class") == "other")
    assert min(np.diff(heights)) >= 15


def test_only_the_pairs_that_all_have_are_drawn() -> None:
    one = [*ROWS[:2], row("greedy", "b", 20.0, 0.64)]
    assert {kept.case for kept in in_common(one, "Dice")} == {"b"}
    assert "Dice, b</text>" in plot(one)
    assert "Dice, median of 2 pairs</text>" in plot(ROWS[:2])


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot([Row("brains", "a", "greedy", status="failed")])


def test_one_dot_alone_is_drawn() -> None:
    assert Axes.around([Dot("greedy", 1.0, 0.5)]).y(0.5) > 0


def test_unknown_systems_are_refused_with_the_known_ones() -> None:
    assert [system.name for system in chosen("warpline,greedy,warpline")] == [
        "warpline",
        "greedy",
        "warpline",
    ]
    with pytest.raises(SystemExit, match=r"No system gredy; there are identity, "):
        chosen("gredy")
    assert all(":" in system.builds for system in SYSTEMS.values())
