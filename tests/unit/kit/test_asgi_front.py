"""The front for the gateway's bridge: what it does beside what all fronts do (test_fronts.py)."""

from collections.abc import Sequence
from typing import Any

import httpx

from services.kit.asgi_front import App
from services.kit.errors import Code, NotFound
from services.kit.fairness import Arrivals
from tests.support.front_calls import FRONTS, GRPC, LIMIT
from tests.support.kitchen import COOK, Kitchen, echo, failing, frame


async def ask(kitchen: Kitchen, *pieces: bytes) -> tuple[dict[str, str], bytes, Sequence[Any]]:
    """Send a request in `pieces`; answers headers, body and what was left unread."""
    events = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    events[-1]["more_body"] = False
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    raw = [(name.encode(), value.encode()) for name, value in (GRPC,)]
    await App(kitchen.table, LIMIT, Arrivals())({"method": "POST", "path": COOK, "headers": raw}, receive, send)
    start, body = sent
    return {name.decode(): value.decode() for name, value in start["headers"]}, body["body"], events


async def test_every_answer_says_how_long_it_is() -> None:
    headers, body, _ = await ask(Kitchen(echo), frame(b"\n\x01x"))
    assert headers == {"content-type": "application/grpc", "content-length": str(len(body))}
    headers, body, _ = await ask(Kitchen(failing(NotFound("x"))), frame(b""))
    assert (headers["content-length"], body) == ("0", b"")


async def test_a_request_over_the_limit_is_refused_before_it_is_read() -> None:
    kitchen = Kitchen(echo)
    headers, _, unread = await ask(kitchen, frame(b"first piece", length=LIMIT + 1), *[b"never asked for"] * 3)
    assert headers["grpc-status"] == str(Code.RESOURCE_EXHAUSTED.value)
    assert len(unread) == 3
    assert not kitchen.calls


async def test_any_other_request_is_a_probe() -> None:
    async with FRONTS["bridge"].serving(Kitchen(echo)) as address, httpx.AsyncClient() as client:
        assert (await client.get(f"http://{address}/healthz")).text == "ok"
