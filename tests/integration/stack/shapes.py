"""The package examples/shapes with every shape of flytekit, as tests of the whole stack register it."""

from typing import Any

from tests.support import clients
from tests.support.sandbox import Sandbox

# The number of entities of each kind in the package.
TASKS, WORKFLOWS, LAUNCH_PLANS = 42, 19, 28
EVERYTHING = TASKS + WORKFLOWS + LAUNCH_PLANS
# The older version has no code uploaded, as when the image contains it; the newer one has.
OLDER, NEWER = "without-code", "with-code"
HOW = {OLDER: ("--copy", "none"), NEWER: ()}


async def register(sandbox: Sandbox, version: str) -> list[str]:
    """Register a version of the package; return the codes of all Create calls."""
    before = len(clients.create_codes(sandbox))
    done = await clients.register(sandbox, clients.EXAMPLES, "--version", version, *HOW[version], "shapes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Successfully registered {EVERYTHING} entities" in done.stdout
    return clients.create_codes(sandbox)[before:]


async def register_all(sandbox: Sandbox) -> dict[str, list[str]]:
    """Register both versions, after the entities they refer to; return the codes of each."""
    referred = await clients.register(sandbox, clients.EXAMPLES / "first_session", "--version", "v1", "report.py")
    assert referred.returncode == 0, referred.stdout + referred.stderr
    return {version: await register(sandbox, version) for version in HOW}


async def read_back(sandbox: Sandbox) -> Any:
    """Return all forms of every entity of the older version, by kind and name."""
    return await clients.script_result(sandbox, "registered.py", "shapes", OLDER)
