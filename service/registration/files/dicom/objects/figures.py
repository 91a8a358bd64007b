"""The figures and the verdict as a structured report.

Source: DICOM PS3.3 A.35.3 (Comprehensive SR), C.17.3 (content). The concepts that DICOM has no
code for are coded by us, scheme 99WARPLINE.
"""

from collections.abc import Iterator, Mapping

from pydicom import Dataset, FileDataset
from pydicom.sequence import Sequence

from service.registration.files.dicom.objects.starting import (
    SERIES_NUMBER,
    Context,
    Kind,
    code,
    instance_items,
    started,
)

SCHEME = "99WARPLINE"
REPORT = Kind(
    "1.2.840.10008.5.1.4.1.1.88.33",
    "SR",
    "figures",
    "Registration figures",
    SERIES_NUMBER + 4,
)
# Name of the figure: code, meaning, unit (UCUM).
FIGURES = {
    "ncc_before": ("NCC-BEFORE", "Correlation before registration", "1"),
    "ncc_after": ("NCC-AFTER", "Correlation after registration", "1"),
    "lncc_before": ("LNCC-BEFORE", "Local correlation before registration", "1"),
    "lncc_after": ("LNCC-AFTER", "Local correlation after registration", "1"),
    "mean_dice_before": ("DICE-BEFORE", "Mean Dice before registration", "1"),
    "mean_dice_after": ("DICE-AFTER", "Mean Dice after registration", "1"),
    "tre_mm_before": ("TRE-BEFORE", "Target registration error before", "mm"),
    "tre_mm_after": ("TRE-AFTER", "Target registration error after", "mm"),
    "folding_fraction": ("FOLDING", "Fraction of voxels that fold", "1"),
    "sdlogj": ("SDLOGJ", "Standard deviation of the log Jacobian", "1"),
    "inverse_consistency_mm": ("INVERSE", "Inverse consistency", "mm"),
    "max_displacement_mm": ("MAX-DISPLACEMENT", "Largest displacement", "mm"),
}
UNITS = {"1": "no units", "mm": "millimeter"}
VERDICTS = {"pass": "Passed", "warn": "To be checked", "fail": "Failed"}


def figures_report(
    context: Context, metrics: Mapping[str, float | None], verdict: str, reasons: Iterator[str]
) -> FileDataset:
    """A container with the verdict, its reasons and every figure that there is.

    Args:
        context: The registration.
        metrics: By the names of `report.json`; others are left out.
        verdict: `pass`, `warn` or `fail`.
        reasons: Sentences.
    """
    made = started(context, REPORT)
    made.ReferencedPerformedProcedureStepSequence = Sequence()
    made.PerformedProcedureCodeSequence = Sequence()
    made.CompletionFlag, made.VerificationFlag, made.PreliminaryFlag = (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    made.ValueType, made.ContinuityOfContent = "CONTAINER", "SEPARATE"
    made.ConceptNameCodeSequence = Sequence([code("REGISTRATION", SCHEME, "Registration report")])
    items = [_text("VERDICT", "Verdict", VERDICTS[verdict])]
    items += [_text("REASON", "Reason", reason) for reason in reasons]
    items += [
        _number(name, value)
        for name in FIGURES
        if isinstance(value := metrics.get(name), int | float)
    ]
    made.ContentSequence = Sequence(items)
    made.CurrentRequestedProcedureEvidenceSequence = Sequence(_evidence(context))
    return made


def _evidence(context: Context) -> list[Dataset]:
    studies: dict[str, Dataset] = {}
    for origin in (context.fixed, context.moving):
        if origin.study_uid not in studies:
            study = Dataset()
            study.StudyInstanceUID = origin.study_uid
            study.ReferencedSeriesSequence = Sequence()
            studies[origin.study_uid] = study
        held = studies[origin.study_uid].ReferencedSeriesSequence
        if any(series.SeriesInstanceUID == origin.series_uid for series in held):
            continue
        series = Dataset()
        series.SeriesInstanceUID = origin.series_uid
        series.ReferencedSOPSequence = instance_items(origin)
        held.append(series)
    return list(studies.values())


def _item(value_type: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", value_type
    item.ConceptNameCodeSequence = Sequence([code(value, SCHEME, meaning)])
    return item


def _text(value: str, meaning: str, text: str) -> Dataset:
    item = _item("TEXT", value, meaning)
    item.TextValue = text
    return item


def _number(name: str, value: float) -> Dataset:
    short, meaning, unit = FIGURES[name]
    item = _item("NUM", short, meaning)
    measured = Dataset()
    measured.NumericValue = float(f"{value:.6g}")
    measured.MeasurementUnitsCodeSequence = Sequence([code(unit, "UCUM", UNITS[unit])])
    item.MeasuredValueSequence = Sequence([measured])
    return item
