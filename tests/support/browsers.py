"""A browser without a screen: follows redirects, keeps cookies, and fills in the provider's form.

As a program, `python tests/support/browsers.py USER URL`, it opens one page, for clients that start a browser.
"""

import asyncio
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urljoin

import httpx


class Browser:
    """A browser.

    Args:
        user: whose name it types into a form.
        mounts: transports by the beginning of a URL, as httpx has them; others go over the network.
    """

    def __init__(self, user: str = "ann", mounts: Mapping[str, httpx.AsyncBaseTransport] | None = None) -> None:
        self.user = user
        self._client = httpx.AsyncClient(mounts=mounts, trust_env=False, timeout=10)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    @property
    def cookies(self) -> dict[str, str]:
        """All cookies; of one name the last."""
        return {cookie.name: cookie.value or "" for cookie in self._client.cookies.jar}

    async def open(self, url: str, **options: Any) -> httpx.Response:
        """Open a page: follow redirects and fill in a form, until there is neither; `history` has the way there."""
        options |= {"follow_redirects": True}
        response = await self._client.get(url, **options)
        before: list[httpx.Response] = []
        while form := _form_of(response):
            before += [*response.history, response]
            action = urljoin(str(response.url), form["action"])
            response = await self._client.post(action, data={form["field"]: self.user}, follow_redirects=True)
        response.history = [*before, *response.history]
        return response

    async def step(self, url: str, **options: Any) -> httpx.Response:
        """Get one response and follow nothing."""
        return await self._client.get(url, follow_redirects=False, **options)


def _form_of(response: httpx.Response) -> dict[str, str]:
    """Return the action and the field of the form in a page, empty without one."""
    if not response.headers.get("content-type", "").startswith("text/html"):
        return {}
    parser = _Form()
    parser.feed(response.text)
    return parser.found


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "form":
            self.found["action"] = named.get("action") or ""
        elif tag == "input" and self.found:
            self.found["field"] = named.get("name") or ""


async def _open(user: str, url: str) -> None:
    async with Browser(user) as browser:
        (await browser.open(url)).raise_for_status()


if __name__ == "__main__":
    asyncio.run(_open(*sys.argv[1:]))
