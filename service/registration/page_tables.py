"""The tables of `report.html`."""

from collections.abc import Iterable, Mapping
from html import escape

from service.registration.report import FileReport, Metrics, Report, Stage

MISSING = "–"


def _number(value: float | None, digits: int = 3, unit: str = "") -> str:
    return MISSING if value is None else f"{value:.{digits}f}{unit}"


def _percent(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def _change(before: float | None, after: float | None, digits: int = 3, unit: str = "") -> str:
    return f"{_number(before, digits)} → {_number(after, digits, unit)}"


def tiles(report: Report) -> str:
    """The figures that matter most, large."""
    m = report.metrics
    shown = {"Similarity (NCC)": _change(m.ncc_before, m.ncc_after)}
    if m.mean_dice_after is not None:
        shown["Mean Dice"] = _change(m.mean_dice_before, m.mean_dice_after)
    if m.tre_mm_after is not None:
        shown["Landmark error"] = _change(m.tre_mm_before, m.tre_mm_after, 2, " mm")
    shown["Folded voxels"] = _percent(m.folding_fraction)
    shown["Largest deformation"] = _number(m.max_deformation_mm, 1, " mm")
    shown["Time"] = f"{sum(stage.seconds for stage in report.stages):.2f} s"
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown.items())
    return f'<dl class="tiles">{cells}</dl>'


def metrics_table(m: Metrics) -> str:
    """Similarity and agreement before and after, then what the transform is like."""
    compared = [
        ("Correlation (NCC)", _number(m.ncc_before), _number(m.ncc_after)),
        ("Local correlation, squared (LNCC)", _number(m.lncc_before), _number(m.lncc_after)),
        ("Mutual information (NMI)", _number(m.nmi_before), _number(m.nmi_after)),
        ("Mean Dice of the labels", _number(m.mean_dice_before), _number(m.mean_dice_after)),
        ("Landmark error (TRE), mm", _number(m.tre_mm_before, 2), _number(m.tre_mm_after, 2)),
        ("Fixed voxels inside the moving image", MISSING, _percent(m.overlap_fraction, 1)),
        ("Folded voxels, |J| ≤ 0", MISSING, _percent(m.folding_fraction)),
        ("Non-diffeomorphic volume", MISSING, _percent(m.non_diffeomorphic_volume)),
        ("Spread of log |J| (SDlogJ)", MISSING, _number(m.sdlogj)),
        ("There and back, mean, mm", MISSING, _number(m.inverse_consistency_mm)),
        ("Largest displacement, affine included, mm", MISSING, _number(m.max_displacement_mm, 2)),
        ("Largest deformation beyond the affine, mm", MISSING, _number(m.max_deformation_mm, 2)),
    ]
    rows = [row for row in compared if row[1:] != (MISSING, MISSING)]
    return _table(("", "Before", "After"), rows, numbers=(1, 2))


def labels_table(m: Metrics) -> str:
    """Each label's agreement, folded away."""
    if not m.dice_after:
        return ""
    names = sorted(m.dice_after, key=lambda name: (len(name), name))
    rows = [
        (
            escape(name),
            _number((m.dice_before or {}).get(name)),
            _number(m.dice_after[name]),
            _number((m.hd95_mm_after or {}).get(name), 2),
            _number((m.label_volume_change or {}).get(name)),
        )
        for name in names
    ]
    head = ("Label", "Dice before", "Dice after", "HD95 after, mm", "Warped / moving volume")
    table = _table(head, rows, numbers=(1, 2, 3, 4))
    return f"<details><summary>Each of {len(rows)} labels</summary>{table}</details>"


def stages_table(stages: list[Stage]) -> str:
    """What each stage took."""
    longest = max((stage.seconds for stage in stages), default=0.0) or 1.0
    rows = [
        (
            escape(stage.name),
            f"{stage.seconds:.3f}",
            f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect width="{100 * stage.seconds / longest:.1f}" height="10"/></svg>',
            escape(stage.detail),
        )
        for stage in stages
    ]
    rows.append(("all", f"{sum(stage.seconds for stage in stages):.3f}", "", ""))
    return _table(("Stage", "Seconds", "", "What it did"), rows, numbers=(1,))


def files_table(files: Mapping[str, FileReport]) -> str:
    """What was delivered, with checksums."""
    rows = [
        (
            f"<code>{escape(name)}</code>",
            _size(file.bytes),
            escape(file.media_type),
            f"<code>{escape(file.sha256)}</code>",
        )
        for name, file in files.items()
    ]
    return _table(("File", "Size", "Type", "SHA-256"), rows, numbers=(1,))


def provenance_table(report: Report) -> str:
    """What is needed to do it again."""
    made = report.provenance
    rows = [("Software", escape(made.software)), ("Execution provider", escape(made.provider))]
    if report.model is not None:
        model = f"{report.model.name}/{report.model.version}"
        rows.append(("Model", f"{escape(model)} <code>{escape(report.model.sha256)}</code>"))
    rows.append(("Seed", str(made.seed)))
    rows += [(escape(name), escape(str(value))) for name, value in made.settings.items()]
    rows += [
        (f"SHA-256 of {escape(role)}", f"<code>{escape(digest)}</code>")
        for role, digest in made.inputs.items()
    ]
    return _table(("", ""), rows)


def _size(count: int) -> str:
    for unit, scale in (("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def _table(
    head: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: tuple[int, ...] = ()
) -> str:
    """A table of cells that are markup already."""

    def cells(tag: str, row: tuple[str, ...]) -> str:
        return "".join(
            f"<{tag}{' class=number' if column in numbers else ''}>{cell}</{tag}>"
            for column, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    top = f"<thead><tr>{cells('th', head)}</tr></thead>" if any(head) else ""
    return f"<table>{top}<tbody>{body}</tbody></table>"
