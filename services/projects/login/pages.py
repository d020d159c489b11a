"""Responses to browsers: redirects, and pages that say what went wrong."""

from html import escape
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response

# A page shows text and links alone, in no frame; addresses with a code or a state do not go to other sites.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# What a URL may have as it is; its escapes stay.
_OF_URLS = ":/?#[]@!$&'()*+,;=%"


def page(status: int, title: str, text: str, link: str = "", link_text: str = "") -> Response:
    """Return a page; all arguments are plain text, and `link` is a checked target or a path of the gateway."""
    text = text[:1].upper() + text[1:]
    anchor = f'<p><a href="{escape(link)}">{escape(link_text)}</a></p>' if link else ""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><title>{escape(title)}</title>'
        f"<h1>{escape(title)}</h1><p>{escape(text)}</p>{anchor}</html>",
        status,
        _HEADERS,
    )


def redirect(target: str) -> Response:
    """Return a redirect to a checked target or a URL of the provider."""
    return Response(status_code=307, headers={**_HEADERS, "Location": quote(target, safe=_OF_URLS)})
