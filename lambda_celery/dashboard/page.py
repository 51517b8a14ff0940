"""The HTML of the page: a fragment, and the document around it where no other site has one."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template

_HERE = Path(__file__).parent

#: Scripts, styles and the chart library. Django's admin finds them by its app, so they are there.
STATIC = _HERE.parent / "django" / "static"

#: In the order in which they are loaded.
STYLES = ("lambda_celery/vendor/uplot/uPlot.min.css", "lambda_celery/dashboard.css")
SCRIPTS = (
    "lambda_celery/vendor/uplot/uPlot.iife.min.js",
    "lambda_celery/elements.js",
    "lambda_celery/charts.js",
    "lambda_celery/figures.js",
    "lambda_celery/attempts.js",
    "lambda_celery/failed.js",
    "lambda_celery/dashboard.js",
)

#: Nothing from elsewhere, and no script or style in the page itself.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def fragment(api: str, *, token: str = "") -> str:
    """Return the part of the page that shows something, as HTML.

    :param api: the path below which the script finds what it asks for, with its last slash.
    :param token: what lets the script send back and discard; empty where the page only reads.
    """
    template = Template((_HERE / "fragment.html").read_text(encoding="utf-8"))
    return template.substitute(api=escape(api), token=escape(token))


def document(title: str, body: str, asset: Callable[[str], str]) -> str:
    """Return a whole page that shows *body*.

    :param title: of the page, as text.
    :param body: the :func:`fragment`.
    :param asset: returns the URL of a static file's name.
    """
    template = Template((_HERE / "document.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        body=body,
        icon=escape(asset("lambda_celery/icon.svg")),
        styles="".join(
            f'<link rel="stylesheet" href="{escape(asset(name))}">\n'
            for name in ("lambda_celery/page.css", *STYLES)
        ),
        # It chooses dark or light before anything is drawn.
        theme=escape(asset("lambda_celery/theme.js")),
        scripts="".join(
            f'<script src="{escape(asset(name))}" defer></script>\n' for name in SCRIPTS
        ),
    )
