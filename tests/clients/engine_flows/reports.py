"""A task that reports on its process, and ends as its input says."""

import json
import os
import random
import signal
import sys
import tempfile
import threading
from pathlib import Path

from flytekit import current_context, task


@task
def report(how: str) -> str:
    """Return what the process of this task looks like."""
    if how == "raise":
        raise ValueError("asked to")
    if how == "exit":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    handlers = {
        number.name: str(signal.getsignal(number)).partition(" at ")[0]
        for number in signal.valid_signals()
        if isinstance(number, signal.Signals)
    }
    found = {
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "path": sys.path,
        "arguments": sys.argv,
        "main": sys.modules["__main__"].__file__,
        "flags": str(sys.flags),
        "handlers": handlers,
        "mask": sorted(str(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "descriptors": sorted(each.name for each in Path("/proc/self/fd").iterdir())[:3],
        "leads session": os.getsid(0) == os.getpid(),
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "umask": os.umask(0o22),
        "temporary": str(Path(tempfile.mkdtemp()).parent),
        "execution": current_context().execution_id.name,
        "encoding": (sys.stdout.encoding, sys.getfilesystemencoding()),
        "main thread": threading.current_thread() is threading.main_thread(),
        "random": random.random(),  # noqa: S311 - whether it repeats
    }
    print("to the log: ü")
    return json.dumps(found)
