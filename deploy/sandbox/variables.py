"""The sandbox's own settings, all of them environment variables; those of its processes are in a file (settings.py).

Plain values, as every command reads them and pydantic takes longer to load than a command to run.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """An environment variable: its type and default as docs/settings.md shows them, and what it does."""

    name: str
    type: str
    default: str
    description: str

    def read(self) -> str:
        """Return its value now; an empty one is the default."""
        return os.environ.get(self.name) or self.default


PORT = Variable("PORT", "port", "30080", "Port of the gateway.")
DIR = Variable("SANDBOX_DIR", "path", ".sandbox", "Folder of the sandbox, with its data and its logs.")
SETTINGS = Variable(
    "SANDBOX_SETTINGS", "path", "", "File with settings of the processes; empty: `settings.toml` in the folder, if any."
)
REPLICAS = Variable(
    "SANDBOX_REPLICAS", "integer", "1", "How many processes there are of registry, executions and events: 1 to 9."
)

VARIABLES = (PORT, DIR, SETTINGS, REPLICAS)
