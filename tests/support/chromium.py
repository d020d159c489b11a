"""Headless Chromium, where it is installed."""

import asyncio
import shutil
from pathlib import Path

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
# Without a sandbox of its own, which root cannot have; nothing but pages of these tests is opened.
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu")
SECONDS = 60

# A system package, which a test run does not install. The same logins also run with a plain HTTP client as the browser
# (tests/support/browsers.py), everywhere.
needed = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")


def command(profile: Path) -> list[str]:
    """Return the command that opens a page, whose URL is to follow, and prints it once it has loaded."""
    return [PROGRAM or "chromium", *OPTIONS, f"--user-data-dir={profile}", "--dump-dom"]


async def page(profile: Path, url: str, *options: str) -> str:
    """Open a page, with the cookies of the profile's folder and further options; return its HTML."""
    process = await asyncio.create_subprocess_exec(
        *command(profile), *options, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode()
