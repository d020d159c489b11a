"""The log line of a call."""

import asyncio
import contextlib
import io
from pathlib import Path

from services.kit.process.telemetry import Calls


def record(calls: Calls, path: str) -> None:
    calls.record("GetTask", path, "OK", 0.001, "")


async def test_log_lines_on_a_full_disk_are_dropped_and_later_ones_are_written() -> None:
    calls = Calls()
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:  # noqa: ASYNC230 - no disk
        calls.log_to(full, "test")
        for number in range(3):
            record(calls, f"/lost/{number}")
            await asyncio.sleep(0)
        assert not calls._lines
        written = io.StringIO()
        calls.log_to(written, "test")
        record(calls, "/written")
        await asyncio.sleep(0)
        assert written.getvalue().count("\n") == 1
        assert '"method": "/written"' in written.getvalue()
