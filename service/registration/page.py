"""`report.html`: one page that holds everything, for a browser without a network.

No script at all: pictures are switched by radio buttons, which also work by keyboard. The content
security policy allows the page's own style sheet and its own pictures, and nothing else.
"""

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files

from service.registration.page_gallery import gallery
from service.registration.page_tables import (
    files_table,
    labels_table,
    metrics_table,
    provenance_table,
    stages_table,
    tiles,
)
from service.registration.pictures import Pictures
from service.registration.report import Report

VERDICTS = {
    "pass": "✓ This registration passed its checks.",
    "warn": "! Look before you use this registration.",
    "fail": "✕ This registration failed its checks; do not use it.",
}
ANSWERED_BY = {
    "initialise": "the initial alignment alone",
    "network": "the model, without refinement",
    "refine": "the model, refined for this pair",
}


def render_page(report: Report, pictures: Pictures) -> str:
    """The whole page; every text of the report is escaped."""
    style = files("service.registration").joinpath("page.css").read_text("utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'"
    subject = f" · job {escape(report.job_id)}" if report.job_id else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Registration: {escape(report.verdict.status)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Warpline registration report{subject}</h1>
{_verdict(report)}
{_warnings(report)}
{tiles(report)}
<h2>Pictures</h2>
<p class="soft">Three slices through the middle of the fixed image, in radiological orientation: \
the patient's right (R) is on the left.</p>
{gallery(pictures)}
<h2>Figures</h2>
<div class="card wide">{metrics_table(report.metrics)}{labels_table(report.metrics)}</div>
<h2>Stages</h2>
<div class="card wide">{stages_table(report.stages)}</div>
<h2>Files</h2>
<div class="card wide">{files_table(report.files)}</div>
<h2>Convention</h2>
<div class="card"><p>{escape(report.convention)}</p></div>
<h2>Provenance</h2>
<div class="card wide">{provenance_table(report)}</div>
<footer>Made by {escape(report.provenance.software)}. For research; not a medical device.</footer>
</main>
</body>
</html>
"""


def _verdict(report: Report) -> str:
    status = report.verdict.status
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in report.verdict.reasons)
    listed = f"<ul>{reasons}</ul>" if reasons else ""
    model = "no model"
    if report.model is not None:
        model = f"model {escape(report.model.name)}/{escape(report.model.version)}"
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
