"""`GET /docs`: the API's description as a page. Drawn here, so that it fetches nothing."""

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from service.gateway.web.home import CSP

router = APIRouter()

Object = dict[str, Any]

STYLE = (
    ":root{color-scheme:light dark}body{margin:0 auto;max-width:52rem;padding:2rem 1.25rem;"
    "font:1rem/1.6 system-ui,sans-serif}h2{margin:2.5rem 0 0;font-size:1.1rem}"
    "code{font-family:ui-monospace,monospace;font-size:.9em}dl{display:grid;"
    "grid-template-columns:minmax(9rem,max-content) 1fr;gap:.15rem 1rem;margin:.5rem 0}"
    "dt{font-weight:600}dd{margin:0;min-width:0;overflow-wrap:anywhere}"
    "h3{font-size:.9rem;margin:1rem 0 0}h2{overflow-wrap:anywhere}"
    "@media(max-width:40rem){dl{display:block}dd{margin:0 0 .5rem 1rem}}"
)


@router.get("/docs", response_class=HTMLResponse)
def reference(request: Request) -> HTMLResponse:
    """Every operation: what it does, what it takes, what it answers."""
    page = _page(request.app)
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


def _page(app: Any) -> str:
    document = app.openapi()
    parts = "".join(
        _operation(method, path, operation, document["components"]["schemas"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<title>Warpline API</title>"
        f"<style>{STYLE}</style></head><body><h1>Warpline API</h1>"
        f"{_paragraphs(document['info']['description'])}"
        '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{parts}</body></html>"
    )


def _operation(method: str, path: str, operation: Object, schemas: Object) -> str:
    taken = {p["name"]: p.get("description", "") for p in operation.get("parameters", [])}
    sections = [
        ("Parameters", taken),
        ("Form", _fields(operation, "multipart/form-data", schemas)),
        ("JSON", _fields(operation, "application/json", schemas)),
        ("Answers", _answers(operation)),
    ]
    lists = "".join(_list(title, rows) for title, rows in sections if rows)
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p><b>{_text(operation['summary'])}.</b> {_text(operation['description'])}</p>{lists}"
    )


def _fields(operation: Object, media_type: str, schemas: Object) -> dict[str, str]:
    """What a body of this type holds: its fields by name, and what they are."""
    content = operation.get("requestBody", {}).get("content", {})
    schema: Object = content.get(media_type, {}).get("schema", {})
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    properties: Object = schema.get("properties", {})
    return {name: field.get("description", "") for name, field in properties.items()}


def _answers(operation: Object) -> dict[str, str]:
    return {status: answer["description"] for status, answer in operation["responses"].items()}


def _list(title: str, rows: dict[str, str]) -> str:
    items = "".join(
        f"<dt><code>{escape(name)}</code></dt><dd>{_text(text)}</dd>" for name, text in rows.items()
    )
    return f"<h3>{title}</h3><dl>{items}</dl>"


def _paragraphs(markdown: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in markdown.strip().split("\n\n"))


def _text(markdown: str) -> str:
    """The text with its code spans, which is all the markdown that descriptions use."""
    return "".join(_spans(markdown))


def _spans(markdown: str) -> Iterator[str]:
    for number, part in enumerate(markdown.split("`")):
        yield f"<code>{escape(part)}</code>" if number % 2 else escape(part)
