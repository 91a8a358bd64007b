"""`GET /docs`: the API's description as a page. Drawn here, so that it fetches nothing."""

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from service.gateway.web.home import CSP

router = APIRouter()

STYLE = (
    ":root{color-scheme:light dark}body{margin:0 auto;max-width:52rem;padding:2rem 1.25rem;"
    "font:1rem/1.6 system-ui,sans-serif}h2{margin:2.5rem 0 0;font-size:1.1rem}"
    "code{font-family:ui-monospace,monospace;font-size:.9em}dl{display:grid;"
    "grid-template-columns:minmax(9rem,max-content) 1fr;gap:.15rem 1rem;margin:.5rem 0}"
    "dt{font-weight:600}dd{margin:0}h3{font-size:.9rem;margin:1rem 0 0}"
)


@router.get("/docs", response_class=HTMLResponse)
def reference(request: Request) -> HTMLResponse:
    """Every operation: what it does, what it takes, what it answers."""
    page = _page(request.app)
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})


def _page(app: Any) -> str:
    document = app.openapi()
    parts = "".join(
        _operation(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Warpline API</title>'
        f"<style>{STYLE}</style></head><body><h1>Warpline API</h1>"
        f"<p>{_text(document['info']['description'])}</p>"
        '<p>For programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{parts}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    taken = {p["name"]: p.get("description", "") for p in operation.get("parameters", [])}
    sections = [("Parameters", taken), ("Form", _form(operation)), ("Answers", _answers(operation))]
    lists = "".join(_list(title, rows) for title, rows in sections if rows)
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p><b>{_text(operation['summary'])}.</b> {_text(operation['description'])}</p>{lists}"
    )


def _form(operation: dict[str, Any]) -> dict[str, str]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("multipart/form-data", {}).get("schema", {})
    properties: dict[str, Any] = schema.get("properties", {})
    return {name: field.get("description", "") for name, field in properties.items()}


def _answers(operation: dict[str, Any]) -> dict[str, str]:
    return {status: answer["description"] for status, answer in operation["responses"].items()}


def _list(title: str, rows: dict[str, str]) -> str:
    items = "".join(
        f"<dt><code>{escape(name)}</code></dt><dd>{_text(text)}</dd>" for name, text in rows.items()
    )
    return f"<h3>{title}</h3><dl>{items}</dl>"


def _text(markdown: str) -> str:
    """The text with its code spans, which is all the markdown that descriptions use."""
    return "".join(_spans(markdown))


def _spans(markdown: str) -> Iterator[str]:
    for number, part in enumerate(markdown.split("`")):
        yield f"<code>{escape(part)}</code>" if number % 2 else escape(part)
