"""Commands of flytekit in a process that has imported it, where that is the same as in a new process."""

import contextlib
import importlib
import os
import random
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# Modules and commands of flytekit; only these run without a new interpreter.
_ENTRYPOINT = "flytekit.bin.entrypoint"
_COMMANDS = ("pyflyte-execute", "pyflyte-map-execute")
_FAST = "pyflyte-fast-execute"
# Variables that Python or flytekit read when they are imported: with other values than the server's a fork would differ
# from a new process.
_READ_AT_IMPORT = ("PYTHON", "LD_", "FLYTE_SDK_", "_F_P_", "_F_TE_")

_LINUX = sys.platform == "linux"


def same_at_import(server: Mapping[str, str], task: Mapping[str, str]) -> bool:
    """Return whether the variables that are read at import have the same values in both environments."""
    return all(
        server.get(name) == task.get(name)
        for name in {*server, *task}
        if name.startswith(_READ_AT_IMPORT) and name != "PYTHONPATH"
    )


def run_warm(command: Sequence[str], path: Sequence[str]) -> Sequence[str]:
    """Run a command of flytekit in this process and exit; return the command when it needs a new process."""
    if command[0] not in {*_COMMANDS, _FAST}:
        return command
    random.seed()  # otherwise all forks would draw the same numbers
    _renew_flytekit()
    if command[0] == _FAST:
        command = _unpacked(command)
    script = shutil.which(command[0])
    if script is None or command[0] not in _COMMANDS or Path(script).parent != Path(sys.executable).parent:
        return command
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if _shadows(added):
        return command
    sys.path[:] = [str(Path(script).parent), *added, *path]
    sys.argv[:] = [script, *command[1:]]
    importlib.invalidate_caches()
    runpy.run_path(script, run_name="__main__")
    sys.exit()


def _unpacked(command: Sequence[str]) -> Sequence[str]:
    """Do what pyflyte-fast-execute does before it starts another process; return the command of that process."""
    entrypoint = importlib.import_module(_ENTRYPOINT)
    context = entrypoint.fast_execute_task_cmd.make_context(_FAST, list(command[1:]))
    distribution, folder = context.params["additional_distribution"], context.params["dest_dir"]
    if distribution is not None:
        folder = folder or os.getcwd()  # noqa: PTH109
        entrypoint._download_distribution(distribution, folder)  # noqa: SLF001 - its only implementation
    unpacked: list[str] = []
    for argument in context.params["task_execute_cmd"]:
        if argument == "--resolver":
            unpacked += ["--dynamic-addl-distro", distribution, "--dynamic-dest-dir", folder]
        unpacked.append(argument)
    if folder is not None:
        before = os.environ.get("PYTHONPATH")
        own = os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111
        os.environ["PYTHONPATH"] = own if before is None else before + os.pathsep + own
    return unpacked


def _shadows(folders: Iterable[str]) -> bool:
    """Return whether a module in `folders` would take the place of one that this process has imported already."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    for folder in folders:
        with contextlib.suppress(OSError):
            if any(name.partition(".")[0] in loaded for name in os.listdir(folder)):  # noqa: PTH208
                return True
    return False


def _renew_flytekit() -> None:
    """Make anew what flytekit made at import from the environment: temporary folders and its context."""
    tempfile.tempdir = None
    persistence = importlib.import_module("flytekit.core.data_persistence")
    contexts = importlib.import_module("flytekit.core.context_manager")
    folder = tempfile.mkdtemp(prefix="flyte-")
    contexts.default_local_file_access_provider = persistence.FileAccessProvider(  # type: ignore[attr-defined]
        local_sandbox_dir=str(Path(folder, "sandbox")), raw_output_prefix=str(Path(folder, "raw"))
    )
    contexts.FlyteContextManager.initialize()


def import_flytekit() -> bool:
    """Import what flytekit's commands need; return whether forks of this process are as good as new processes."""
    try:
        importlib.import_module(_ENTRYPOINT)
        importlib.import_module("flytekit.core.array_node_map_task")
    except Exception as error:  # noqa: BLE001 - without flytekit commands run as new processes, and fail as such
        sys.stderr.write(f"flytekit cannot be imported: {error!r}\n")
        return False
    threads = len(os.listdir(f"/proc/{os.getpid()}/task")) if _LINUX else 1  # noqa: PTH208
    if threads > 1:  # a fork has none of them, but the locks that they hold
        sys.stderr.write(f"flytekit's import has started {threads - 1} threads; tasks run as new processes\n")
    return threads == 1
