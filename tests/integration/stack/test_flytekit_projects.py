"""Projects and attributes by the client of an unchanged flytekit."""

import asyncio
import json
import os
import subprocess

from tests.support.sandbox import ROOT, Sandbox

CLIENT = ROOT / ".venv-client" / "bin" / "python"
SCRIPT = ROOT / "tests" / "clients" / "projects.py"
ACTIVE, ARCHIVED = 0, 1


async def test_projects_and_attributes_are_stored_as_flytekit_sends_them(sandbox: Sandbox) -> None:
    environment = {**os.environ, "FLYTECTL_CONFIG": str(sandbox.client_config), "PYTHONWARNINGS": "ignore"}
    done = await asyncio.to_thread(
        subprocess.run,
        [str(CLIENT), str(SCRIPT), "kit"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "pages": [["kit-0", "kit-1"], ["kit-2"]],
        # Registered, archived, renamed, and activated again.
        "states": [ACTIVE, ARCHIVED, ARCHIVED, ACTIVE],
        "domains": ["development", "staging", "production"],
        "inherited": ["domain", ""],
        "queue": [["gpu"], "peel"],
        "plugins": ["python", "spark"],
        "listed": ["peel"],
    }
