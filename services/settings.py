"""The settings of every process, and a check of values for them.

`python -m services.settings` checks the sandbox's file of settings; the sandbox starts services and does not import
them. Standard input is the content of the file as JSON: settings of all processes that have them, and a table for each
process with settings of its own. Standard output is JSON too: `settings`, the values for each process, and `problems`,
a line for each setting that is unknown or wrong.
"""

import json
import sys
from collections.abc import Container, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.bootstrap import Settings as Gateway
from services.events.config import Settings as Events
from services.executions.config import Settings as Executions
from services.projects.config import Settings as Projects
from services.registry.config import Settings as Registry

PROCESSES: Mapping[str, type[BaseModel]] = {
    "registry": Registry,
    "executions": Executions,
    "events": Events,
    "projects": Projects,
    "gateway": Gateway,
}

# Messages for those errors of pydantic that name Python types.
_IN_TOML = {
    "tuple_type": "must be an array",
    "list_type": "must be an array",
    "sequence_str": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}


def checked(content: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the settings of each process, and their problems.

    Args:
        content: settings of all processes, by name; under a process's name a table of its own.
    """
    shared = {name: value for name, value in content.items() if name not in PROCESSES}
    problems = [f"{name}: {_hint(name, shared[name])}" for name in shared if not _owners(name)]
    settings: dict[str, dict[str, Any]] = {}
    for process, model in PROCESSES.items():
        own = content.get(process, {})
        if not isinstance(own, dict):
            problems.append(f"{process}: must be a table")
            continue
        problems += [f"{process}.{name}: {_hint(name)}" for name in own if name not in model.model_fields]
        chosen = {name: value for name, value in (shared | own).items() if name in model.model_fields}
        settings[process] = chosen
        problems += _wrong(process, chosen, own)
    return settings, list(dict.fromkeys(problems))


def _owners(name: str) -> list[str]:
    return [process for process, model in PROCESSES.items() if name in model.model_fields]


def _hint(name: str, value: object = None) -> str:
    """Return why a name is not a setting there, and which name or table may be meant."""
    if isinstance(value, dict):
        return f"there is no such setting or table; the tables are {', '.join(PROCESSES)} and environment"
    if owners := _owners(name):
        return f"it is a setting of {', '.join(owners)}"
    similar = get_close_matches(name, {name for model in PROCESSES.values() for name in model.model_fields})
    hint = f"did you mean {' or '.join(similar)}?" if similar else "docs/settings.md lists all"
    return f"there is no such setting; {hint}"


def _wrong(process: str, values: Mapping[str, Any], own: Container[str]) -> Iterator[str]:
    try:
        PROCESSES[process](**values)
    except ValidationError as error:
        for problem in error.errors():
            name = ".".join(map(str, problem["loc"]))
            text = _IN_TOML.get(problem["type"], problem["msg"].removeprefix("Value error, "))
            shared = name and problem["loc"][0] not in own
            yield f"{name if shared else '.'.join(filter(None, (process, name)))}: {text}"


if __name__ == "__main__":
    values, wrong = checked(json.load(sys.stdin))
    json.dump({"settings": values, "problems": wrong}, sys.stdout)
