"""What pages for a browser without a network have in common: head, style, policy, footer.

No script at all. The content security policy allows the page's own style sheet and its own
pictures, and nothing else.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files


@cache
def sheet(place: str = "page.css") -> str:
    """A style sheet of this package."""
    return files("service.registration").joinpath(place).read_text("utf-8")


def made_by(software: str) -> str:
    """The usual footer."""
    return f"Made by {escape(software)}. For research; not a medical device."


def framed(title: str, style: str, body: str, footer: str) -> str:
    """A whole page.

    Args:
        title: Plain text.
        style: What the page's one style sheet says.
        body: Markup of what stands between the head and the footer.
        footer: Markup.
    """
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
<footer>{footer}</footer>
</main>
</body>
</html>
"""
