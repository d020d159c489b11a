"""The executions service with fault points: it kills itself at a chosen point, and is restarted.

    python -m tests.support.fault_points FOLDER

A fault point is before or after a step of the service, such as `after launches.insert`. When the file FOLDER/armed
contains its name, the process kills itself there, once; FOLDER/deaths then contains the number of deaths. Everything is
imported before the process forks, so that the service is back at once.
"""

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

from services.executions import app
from services.executions.config import Settings
from services.executions.launching.group_commit import GroupCommit
from services.executions.launching.launched_entities import EntityLease
from services.executions.launching.launcher import Launcher
from services.executions.launching.projects import Projects
from services.executions.rpc.executions import ExecutionHandlers
from services.executions.store import executions, launches
from services.kit.messaging.bus import Bus
from services.kit.messaging.outbox import Outbox
from services.kit.objects.store import ObjectStore
from services.kit.process.service import main

Step = Callable[..., Awaitable[Any]]

STEPS = (
    (ExecutionHandlers, "_source"),
    (ExecutionHandlers, "TerminateExecution"),
    (EntityLease, "entity"),
    (Launcher, "_write_inputs"),
    (GroupCommit, "store"),
    (Projects, "get"),
    (executions, "lock"),
    (launches, "insert"),
    (Bus, "append"),
    (ObjectStore, "get"),
    (ObjectStore, "put"),
    (Outbox, "put"),
)


def deadly(step: Step, name: str, armed: Path) -> Step:
    """Return `step` with a fault point before and after it, armed by the content of `armed`."""

    def pass_point(side: str) -> None:
        if armed.exists() and armed.read_text() == f"{side} {name}":
            armed.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    @functools.wraps(step)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        pass_point("before")
        result = await step(*args, **kwargs)
        pass_point("after")
        return result

    return wrapped


def serve(folder: Path) -> None:
    """Serve until SIGTERM; restart a process that has killed itself."""
    for owner, attribute in STEPS:
        name = f"{owner.__name__.rpartition('.')[2]}.{attribute}"
        setattr(owner, attribute, deadly(getattr(owner, attribute), name, folder / "armed"))
    deaths = 0
    while True:
        child = os.fork()
        if not child:
            sys.argv[1:] = []
            main(app.NAME, Settings, app.build, Path(app.__file__).parent / "store" / "migrations")
            return

        def end(number: int, _frame: FrameType | None, child: int = child) -> None:
            os.kill(child, number)

        signal.signal(signal.SIGTERM, end)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            return
        deaths += 1
        (folder / "deaths").write_text(str(deaths))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
