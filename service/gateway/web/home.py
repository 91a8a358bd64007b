"""`GET /`: what this is, for people. One page, nothing fetched from elsewhere."""

from html import escape
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from service.gateway.desk import AtDesk

router = APIRouter()

PAGE = (Path(__file__).parent / "home.html").read_text(encoding="utf-8")
CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@router.get("/", response_class=HTMLResponse)
def home(desk: AtDesk) -> HTMLResponse:
    """A page that says what the service does and how to call it."""
    settings = desk.settings
    address = settings.public_url or f"http://{settings.host}:{settings.port}"
    page = PAGE.replace("{{address}}", escape(address.rstrip("/")))
    return HTMLResponse(page, headers={"Content-Security-Policy": CSP})
