"""The log's line a call."""

import asyncio
import contextlib
import io
from pathlib import Path

from services.kit.process.telemetry import Calls


def answer(calls: Calls, path: str) -> None:
    calls.record("GetTask", path, "OK", 0.001, "")


async def test_lines_that_a_full_disk_does_not_take_are_lost_and_not_kept_and_later_ones_are_written() -> None:
    calls = Calls()
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:  # noqa: ASYNC230 - no disk
        calls.log_to(full, "test")
        for number in range(3):
            answer(calls, f"/lost/{number}")
            await asyncio.sleep(0)
        assert not calls._lines
        written = io.StringIO()
        calls.log_to(written, "test")
        answer(calls, "/kept")
        await asyncio.sleep(0)
        assert written.getvalue().count("\n") == 1
        assert '"method": "/kept"' in written.getvalue()
