"""Lists of points in every dialect, and what is no list of points."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from service.errors import BadPointsError
from service.registration.files.points_file import read_points, write_points
from service.registration.points import WorldPoints

RAS = np.array([[1.5, -2.25, 3.0], [-40.0, 50.5, 1e-3]])
Write = Callable[[str], Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "Doe^Jane.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def fcsv(system: str, rows: str) -> str:
    return (
        "# Markups fiducial file version = 4.11\n"
        f"# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n" + rows
    )


def markups(system: str = "LPS", **changes: Any) -> str:
    points = [
        {"id": "1", "label": "A", "position": [-1.5, 2.25, 3.0], "positionStatus": "defined"},
        {"id": "2", "label": "B", "position": [40.0, -50.5, 1e-3], "positionStatus": "defined"},
    ]
    markup = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": points} | changes
    return json.dumps({"@schema": "markups-schema-v1.0.3.json", "markups": [markup]})


def test_points_come_back_as_they_were(tmp_path: Path) -> None:
    points = WorldPoints(RAS, ("left, upper", 'the "other"'))
    write_points(tmp_path / "p.csv", points)
    back = read_points(tmp_path / "p.csv")
    assert_allclose(back.positions_mm, RAS, atol=1e-6)
    assert back.ids == points.ids
    write_points(tmp_path / "p.csv", WorldPoints(RAS))
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "id,x_mm,y_mm,z_mm",
        "1,1.500000,-2.250000,3.000000",
        "2,-40.000000,50.500000,0.001000",
    ]


SLICER_ROWS = (
    "vtkMRMLMarkupsFiducialNode_0,{}1.5,{}-2.25,3,0,0,0,1,1,1,0,A,,\n"
    "vtkMRMLMarkupsFiducialNode_1,{}-40,{}50.5,0.001,0,0,0,1,1,1,0,B,,\n"
)

GOOD: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "ours": ("x_mm,y_mm,z_mm\n1.5,-2.25,3\n-40,50.5,0.001\n", None),
    "ours-with-names": ("id,x_mm,y_mm,z_mm\nA,1.5,-2.25,3\nB,-40,50.5,0.001\n", ("A", "B")),
    "other-order-and-columns": (
        "note,Z_MM, y_mm,x_mm,label\n,3,-2.25,1.5,A\nx,0.001,50.5,-40,B\n", ("A", "B")
    ),
    "from-a-spreadsheet": (
        "\ufeffx_mm,y_mm,z_mm\r\n1.5,-2.25,3\r\n\r\n-4e1,50.5,0.001\r\n", None
    ),
    "fcsv-lps": (fcsv("LPS", SLICER_ROWS.replace("{}-", "").replace("{}", "-")), ("A", "B")),
    "fcsv-1": (fcsv("1", SLICER_ROWS.replace("{}-", "").replace("{}", "-")), ("A", "B")),
    "fcsv-ras": (fcsv("RAS", SLICER_ROWS.replace("{}", "")), ("A", "B")),
    "fcsv-0": (fcsv("0", SLICER_ROWS.replace("{}", "")), ("A", "B")),
    "markups-lps": (markups(), ("A", "B")),
    "markups-in-mm": (markups(coordinateUnits=["mm", "mm", "mm"]), ("A", "B")),
    "markups-ras": (
        markups("RAS").replace("-1.5, 2.25", "1.5, -2.25").replace("40.0, -50.5", "-40.0, 50.5"),
        ("A", "B"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_every_dialect_gives_the_same_points(case: str, written: Write) -> None:
    text, ids = GOOD[case]
    points = read_points(written(text))
    assert_allclose(points.positions_mm, RAS, atol=1e-12)
    assert points.ids == ids


def test_points_of_ants_are_lps_if_the_caller_says_so(written: Write) -> None:
    path = written("x,y,z,t,label\n-1.5,2.25,3,0,1\n40,-50.5,0.001,0,2\n")
    points = read_points(path, frame="lps")
    assert_allclose(points.positions_mm, RAS)
    assert points.ids == ("1", "2")
    assert_allclose(read_points(path, frame="ras").positions_mm, RAS * (-1, -1, 1))
    with pytest.raises(BadPointsError, match="frame"):
        read_points(path)


BAD: dict[str, str] = {
    "empty": "",
    "blank": "\n\n",
    "no-points": "x_mm,y_mm,z_mm\n",
    "no-header": "1,2,3\n4,5,6\n",
    "two-columns": "x_mm,y_mm\n1,2\n",
    "a-word": "x_mm,y_mm,z_mm\n1,2,Doe^Jane\n",
    "nan": "x_mm,y_mm,z_mm\n1,2,nan\n",
    "infinite": "x_mm,y_mm,z_mm\n1,2,1e999\n",
    "short-row": "x_mm,y_mm,z_mm\n1,2,3\n1,2\n",
    "semicolons": "x_mm;y_mm;z_mm\n1;2;3\n",
    "endless-field": 'x_mm,y_mm,z_mm\n"' + "1" * 200_000,
    "fcsv-without-system": fcsv("", SLICER_ROWS.replace("{}", "")),
    "fcsv-of-another-system": fcsv("IJK", SLICER_ROWS.replace("{}", "")),
    "fcsv-without-columns": fcsv("LPS", "").replace("columns", "rows"),
    "fcsv-without-points": fcsv("LPS", ""),
    "json-without-markups": "{}",
    "json-cut": markups()[:80],
    "json-deep": '{"markups":' + "[" * 100_000,
    "json-of-another-system": markups("IJK"),
    "json-without-system": markups(coordinateSystem=None),
    "json-in-voxels": markups(coordinateUnits="voxel"),
    "json-without-points": markups(controlPoints=[]),
    "json-points-a-number": markups(controlPoints=7),
    "json-position-missing": markups(controlPoints=[{"label": "A"}]),
    "json-position-of-two": markups(controlPoints=[{"position": [1, 2]}]),
    "json-positions-of-all-lengths": markups(
        controlPoints=[{"position": [1, 2]}, {"position": [1, 2, 3]}]
    ),
    "json-position-a-word": markups(controlPoints=[{"position": ["Doe^Jane", 2, 3]}]),
    "json-position-nan": markups(controlPoints=[{"position": [float("nan"), 2, 3]}]),
    "json-position-huge": markups(controlPoints=[{"position": [10**400, 2, 3]}]),
    "json-undefined": markups(
        controlPoints=[{"position": [1, 2, 3], "positionStatus": "undefined"}]
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_list_of_points_is_refused(case: str, written: Write) -> None:
    with pytest.raises(BadPointsError) as refusal:
        read_points(written(BAD[case]), "moving_points")
    assert refusal.value.field == "moving_points"
    assert refusal.value.detail.endswith(".")
    assert "Doe" not in refusal.value.detail


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x_mm,y_mm,z_mm\n\xff\xfe,2,3\n")
    with pytest.raises(BadPointsError, match="UTF-8"):
        read_points(tmp_path / "p")


def test_a_sparse_file_of_gibibytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "p").open("wb") as stream:
        stream.truncate(4 << 30)
    with pytest.raises(BadPointsError, match="64 MiB"):
        read_points(tmp_path / "p")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["markups", "controlPoints", "position", "coordinateSystem", "label"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(markup=JSON, text=st.text(max_size=60))
def test_whatever_is_sent_the_answer_is_points_or_our_error(
    markup: object, text: str, written: Write
) -> None:
    for content in (
        text,
        "x_mm,y_mm,z_mm\n" + text,
        fcsv("LPS", text),
        json.dumps({"markups": markup}),
        json.dumps({"markups": [{"coordinateSystem": "LPS", "controlPoints": [markup]}]}),
    ):
        try:
            points = read_points(written(content))
        except BadPointsError:
            continue
        assert np.isfinite(points.positions_mm).all()
