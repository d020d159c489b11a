"""The sandbox's own settings, all of them environment variables; `settings_file` has those of its processes.

Plain values: every command reads them, and pydantic takes longer to load than a command to run.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable, with its type, default and description for docs/settings.md."""

    name: str
    type: str
    default: str
    description: str

    def read(self) -> str:
        """Return its present value; an empty one is the default."""
        return os.environ.get(self.name) or self.default


PORT = Variable("PORT", "port", "30080", "Port of the gateway.")
DIR = Variable("SANDBOX_DIR", "path", ".sandbox", "Folder of the sandbox, with its data and logs.")
SETTINGS = Variable(
    "SANDBOX_SETTINGS", "path", "", "File with settings of the processes; empty: `settings.toml` in the folder, if any."
)
REPLICAS = Variable(
    "SANDBOX_REPLICAS", "integer", "1", "Number of processes of registry, of executions and of events each: 1 to 9."
)
ENGINE = Variable(
    "SANDBOX_ENGINE",
    "local, kubernetes or none",
    "local",
    "What runs executions. local: an engine of the sandbox, which runs tasks as processes of this machine. "
    "kubernetes: flytepropeller in the clusters that the file of settings lists as `clusters`. none: they wait until "
    "a client sends their events.",
)
TASK_PYTHON = Variable(
    "SANDBOX_TASK_PYTHON",
    "path",
    "",
    "Python interpreter with flytekit that runs tasks; empty: that of an environment which `make up` makes, once.",
)
COLD_TASKS = Variable(
    "SANDBOX_COLD_TASKS",
    "1 or empty",
    "",
    "1: each task starts a new Python, which takes one to two seconds, instead of a fork of one that has flytekit.",
)
TASK_CORES = Variable(
    "SANDBOX_TASK_CORES",
    "number",
    "",
    "Cores that tasks share, such as 1 or 1.5; empty: all of this machine. Others wait.",
)
TASK_MEMORY = Variable(
    "SANDBOX_TASK_MEMORY",
    "number",
    "",
    "GiB of memory that tasks share, such as 4; empty: all of this machine. Others wait.",
)
TASK_NICE = Variable(
    "SANDBOX_TASK_NICE",
    "integer",
    "0",
    "How far tasks give way to other processes of this machine, as with `nice`: 0 not at all, 19 most.",
)

VARIABLES = (
    *(PORT, DIR, SETTINGS, REPLICAS, ENGINE),
    *(TASK_PYTHON, COLD_TASKS, TASK_CORES, TASK_MEMORY, TASK_NICE),
)
