"""What pages for a browser without a network have in common: head, style, policy, footer.

No script at all. The content security policy allows the page's own style sheet and its own
pictures, and nothing else.
"""

from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files


def framed(title: str, sheets: tuple[str, ...], body: str, made_by: str) -> str:
    """A whole page.

    Args:
        title: Plain text.
        sheets: Style sheets, by their place in this package.
        body: Markup of what stands between the head and the footer.
        made_by: Plain text.
    """
    package = files("service.registration")
    style = "".join(package.joinpath(sheet).read_text("utf-8") for sheet in sheets)
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
<footer>Made by {escape(made_by)}. For research; not a medical device.</footer>
</main>
</body>
</html>
"""
