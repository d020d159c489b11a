"""The package of every shape that flytekit knows, examples/shapes, as tests of the whole stack register it."""

from typing import Any

from tests.support import clients
from tests.support.sandbox import Sandbox

# As many as the package has of each kind.
TASKS, WORKFLOWS, LAUNCH_PLANS = 42, 19, 28
EVERYTHING = TASKS + WORKFLOWS + LAUNCH_PLANS
# The older version has no code beside it, as in images that hold it; the newer one has been uploaded with it.
OLDER, NEWER = "without-code", "with-code"
HOW = {OLDER: ("--copy", "none"), NEWER: ()}


async def register(sandbox: Sandbox, version: str) -> list[str]:
    """Register a version of the package; answers the codes of all Create calls."""
    before = len(clients.create_codes(sandbox))
    done = await clients.register(sandbox, clients.EXAMPLES, "--version", version, *HOW[version], "shapes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Successfully registered {EVERYTHING} entities" in done.stdout
    return clients.create_codes(sandbox)[before:]


async def register_all(sandbox: Sandbox) -> dict[str, list[str]]:
    """Register both versions, after what they refer to; answers the codes of each."""
    referred = await clients.register(sandbox, clients.EXAMPLES / "first_session", "--version", "v1", "report.py")
    assert referred.returncode == 0, referred.stdout + referred.stderr
    return {version: await register(sandbox, version) for version in HOW}


async def read_back(sandbox: Sandbox) -> Any:
    """All forms of every entity of the older version, by kind and name."""
    return await clients.script_result(sandbox, "registered.py", "shapes", OLDER)
