"""The readiness of a process."""

import asyncio

import pytest

from services.kit.errors import Unavailable
from services.kit.process import readiness
from services.kit.process.readiness import Readiness


async def healthy() -> None:
    return


async def failing() -> None:
    raise Unavailable("its disk is full")


async def crashing() -> None:
    raise RuntimeError("secret")


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ({}, ""),
        ({"a": healthy, "b": healthy}, ""),
        ({"a": healthy, "b": failing}, "its disk is full"),
        ({"a": failing, "b": failing}, "its disk is full"),
        ({"a": crashing, "b": failing}, "a cannot be asked; its disk is full"),
        ({"the stream": hanging, "b": healthy}, "the stream does not answer in time"),
    ],
)
async def test_readiness_reports_the_problems_of_all_checks(
    checks: dict[str, readiness.Check], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_CHECK_SECONDS", 0.02)
    assert await Readiness(checks)() == expected


async def test_concurrent_callers_share_one_check_and_its_result_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_of_checks = 0

    async def check() -> None:
        nonlocal count_of_checks
        count_of_checks += 1

    ready = Readiness({"a": check})
    await asyncio.gather(*(ready() for _ in range(20)))
    assert count_of_checks == 1
    monkeypatch.setattr(readiness, "_CACHE_SECONDS", 0.0)
    await ready()
    assert count_of_checks == 2
