"""`report.html`: one page that holds everything, for a browser without a network.

Pictures are switched by radio buttons, which also work by keyboard; see `page_frame`.
"""

from html import escape

from service.registration.page_frame import framed, made_by, sheet
from service.registration.page_tables import (
    files_table,
    labels_table,
    metrics_table,
    provenance_table,
    stages_table,
    tiles,
)
from service.registration.report import Report

VERDICTS = {
    "pass": "✓ This registration passed its checks.",
    "warn": "! Look before you use this registration.",
    "fail": "✕ This registration failed its checks; do not use it.",
}
ANSWERED_BY = {
    "initialise": "the initial alignment alone",
    "network": "the model, without refinement",
    "refine": "refinement for this pair",
}


GALLERY = "<!-- pictures -->"  # no text of a report is like this once it is escaped


def render_page(report: Report, gallery: bytes) -> bytes:
    """The whole page; every text of the report is escaped.

    Args:
        report: What the page tells.
        gallery: The markup of its pictures: see `page_gallery`.
    """
    subject = f" · job {escape(report.job_id)}" if report.job_id else ""
    body = f"""<h1>Warpline registration report{subject}</h1>
{_verdict(report)}
{_warnings(report)}
{tiles(report)}
<h2>Pictures</h2>
<p class="soft">Three slices through the middle of the fixed image, in radiological orientation: \
the patient's right (R) is on the left.</p>
{GALLERY}
<h2>Figures</h2>
<div class="card wide">{metrics_table(report.metrics)}{labels_table(report.metrics)}</div>
<h2>Stages</h2>
<div class="card wide">{stages_table(report.stages)}</div>
<h2>Files</h2>
<div class="card wide">{files_table(report.files)}</div>
<h2>Convention</h2>
<div class="card"><p>{escape(report.convention)}</p></div>
<h2>Provenance</h2>
<div class="card wide">{provenance_table(report)}</div>"""
    title = f"Registration: {report.verdict.status}"
    page = framed(title, sheet(), body, made_by(report.provenance.software))
    before, after = page.encode().split(GALLERY.encode())
    return b"".join((before, gallery, after))


def _verdict(report: Report) -> str:
    status = report.verdict.status
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.verdict.reasons)
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    model = "no model"
    if report.model is not None:
        name = f"{escape(report.model.name)}/{escape(report.model.version)}"
        model = f"model {name} was chosen; what it did stands under Stages"
    return (
        f'<section class="card verdict {status}"><strong>{VERDICTS[status]}</strong>'
        f'<p class="soft">The result comes from {ANSWERED_BY[report.answered_by]} ({model}).</p>'
        f"{listed}</section>"
    )


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    return f'<section class="card warnings"><h3>Warnings</h3><ul>{items}</ul></section>'
