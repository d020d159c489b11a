"""What a process says when it is asked whether it is ready."""

import asyncio

import pytest

from services.kit.errors import Unavailable
from services.kit.process import readiness
from services.kit.process.readiness import Readiness


async def well() -> None:
    return


async def ill() -> None:
    raise Unavailable("its disk is full")


async def broken() -> None:
    raise RuntimeError("secret")


async def silent() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("checks", "wrong"),
    [
        ({}, ""),
        ({"a": well, "b": well}, ""),
        ({"a": well, "b": ill}, "its disk is full"),
        ({"a": ill, "b": ill}, "its disk is full"),
        ({"a": broken, "b": ill}, "a cannot be asked; its disk is full"),
        ({"the stream": silent, "b": well}, "the stream does not answer in time"),
    ],
)
async def test_a_process_is_ready_when_every_check_is_well(
    checks: dict[str, readiness.Check], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_CHECK_SECONDS", 0.02)
    assert await Readiness(checks)() == wrong


async def test_many_who_ask_at_a_time_cost_one_check_and_its_answer_is_soon_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    async def count() -> None:
        nonlocal asked
        asked += 1

    ready = Readiness({"a": count})
    await asyncio.gather(*(ready() for _ in range(20)))
    assert asked == 1
    monkeypatch.setattr(readiness, "_CACHE_SECONDS", 0.0)
    await ready()
    assert asked == 2
