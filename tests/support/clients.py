"""Flyte's Python client in an environment of its own, run as its users run it."""

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.sandbox import ROOT, Sandbox

# Made by `make test`: the services do not need flytekit's dependencies.
CLIENTS = ROOT / ".venv-client" / "bin"
SCRIPTS = ROOT / "tests" / "clients"
EXAMPLES = ROOT / "examples"
CLIENT_SECONDS = 120


async def run(
    sandbox: Sandbox, folder: Path, *command: str | Path, config: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a client's command in a folder, against a sandbox, with the sandbox's file of configuration or another."""
    chosen = config or sandbox.client_config
    environment = {**os.environ, "FLYTECTL_CONFIG": str(chosen), "PYTHONWARNINGS": "ignore"}
    return await asyncio.to_thread(
        subprocess.run,
        [CLIENTS / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )


async def output(sandbox: Sandbox, folder: Path, *command: str | Path) -> str:
    """Run a client's command, which must succeed; return its output."""
    done = await run(sandbox, folder, *command)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def script_result(sandbox: Sandbox, script: str, *arguments: str) -> Any:
    """Run a script of tests/clients in the folder of the examples; return the JSON in its last line."""
    printed = await output(sandbox, EXAMPLES, "python", SCRIPTS / script, *arguments)
    return json.loads(printed.splitlines()[-1])


async def register(sandbox: Sandbox, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `pyflyte register` in a folder."""
    return await run(sandbox, folder, "pyflyte", "register", "-p", "flytesnacks", "-d", "development", *arguments)


def create_codes(sandbox: Sandbox) -> list[str]:
    """Return the codes of all Create calls to the registry until now."""
    lines = (sandbox.folder / "logs" / "registry.log").read_text().splitlines()
    calls = [line for line in map(json.loads, lines) if line["message"] == "call" and "/Create" in line["method"]]
    return [call["code"] for call in calls]
