"""`python -m docs.settings_page`: write docs/settings.md from the definitions of the settings."""

import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, DirectoryPath, FilePath
from pydantic.fields import FieldInfo

from deploy.sandbox.settings import VARIABLES
from gateway.clusters import Address
from services.kit.process.settings import PREFIX, ProcessSettings
from services.settings import PROCESSES

PAGE = Path(__file__).with_name("settings.md")
UNITS = ("seconds", "bytes", "days")
"""The name of a setting of a time or a size ends with its unit."""

_INTRODUCTION = """\
# Settings

Written by `make docs` from the definitions in `services/*/config.py`, `services/contracts/workflow_settings.py`,
`services/kit/process/settings.py`, `gateway/bootstrap.py` and `deploy/sandbox/settings.py`.

A service reads its environment first, then the YAML file that `FLYTEPLANE_CONFIG` names, then takes the default. In the
environment a setting is `FLYTEPLANE_` and its name in capitals; a table is JSON, and one key of it
`FLYTEPLANE_<SETTING>__<KEY>`; the items of an array are separated by commas. An unknown or wrong setting stops the
start with one line. The gateway's settings are options of `python -m gateway render`. In the sandbox,
[a file](#the-sandboxs-file-of-settings) has the settings of all processes.

Times are in seconds and sizes in bytes; the names of the settings end with the unit. Days are the unit of the event
log's retention: the log has a partition for each day and is deleted by whole days.

## The sandbox's file of settings

`settings.toml` in the sandbox's folder, or the file that `SANDBOX_SETTINGS` names, is read when the sandbox starts
(`make down up` after a change):

```toml
# For every process that has the setting.
domains = ["development", "staging=Staging area", "production"]
objects_url = "s3://my-bucket/flyte"
log_level = "debug"

# For one process.
[executions]
max_parallelism = 50
labels = { team = "fruit" }

[gateway]
cors_origins = ["http://localhost:3000"]

# Variables of the object store's client, for the services that use it: AWS_*, GOOGLE_* and AZURE_*.
[environment]
AWS_REGION = "eu-central-1"
AWS_ACCESS_KEY_ID = "..."
AWS_SECRET_ACCESS_KEY = "..."
```

Tables are `registry`, `executions`, `events`, `projects`, `gateway` and `environment`. Several processes need the same
settings `objects_*`, `metadata_storage_prefix`, `task_resource_limits`, `max_message_bytes`, `auth_issuer`,
`auth_ca_file`, `subject_claims`, `client_claims`, `authorization_policy`, `clusters` and `namespace_template`, so these
are allowed above all tables only. The sandbox sets ports, databases, NATS, TLS and all secrets itself: settings of
these are refused before anything starts, as are unknown and wrong ones. `FLYTEPLANE_LOG_LEVEL` in the environment of
`make up` has priority over the file. The sandbox's folder is readable by its owner only; `make reset` deletes it, and
the file in it.
"""

_TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", Address: "address"}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_KIB = 1024
_BINARY = ("KiB", "MiB", "GiB")


def page() -> str:
    """Return docs/settings.md."""
    return "\n".join((_INTRODUCTION, *_services(), *_gateway(), *_sandbox()))


def _services() -> Iterator[str]:
    """Yield a section for each set of settings; the ones that most services have come first."""
    models = {name: model for name, model in PROCESSES.items() if issubclass(model, ProcessSettings)}
    for definition in dict.fromkeys(kind for model in models.values() for kind in reversed(model.__mro__)):
        if issubclass(definition, ProcessSettings):
            users = [name for name, model in models.items() if issubclass(model, definition)]
            title = "Every service" if len(users) == len(models) else ", ".join(users).capitalize()
            yield _section(title, "Environment variable", _own(definition))


def _gateway() -> Iterator[str]:
    yield _section("Gateway", "Option", PROCESSES["gateway"].model_fields)


def _sandbox() -> Iterator[str]:
    heading = ("Variable", "Type", "Default", "What it does")
    rows = ((_code(each.name), each.type, _code(each.default), each.description) for each in VARIABLES)
    yield f"## Sandbox\n\n{_table(heading, rows)}"


def _own(definition: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the settings that a class adds to those of its base."""
    return {name: field for name, field in definition.model_fields.items() if name in definition.__annotations__}


def _section(title: str, given_as: str, fields: Mapping[str, FieldInfo]) -> str:
    rows = (
        (
            _code(name),
            _code(field.title or PREFIX + name.upper()),
            _type(name, field),
            _default(name, field),
            " ".join((field.description or "").split()),
        )
        for name, field in fields.items()
    )
    return f"## {title}\n\n{_table(('Setting', given_as, 'Type', 'Default', 'What it does'), rows)}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _type(name: str, field: FieldInfo) -> str:
    """Return the unit of a time or a size, else the type, with its bounds."""
    unit = name.rpartition("_")[2]
    bounds = [
        f"{words} {getattr(limit, attribute)}"
        for kind, (attribute, words) in _BOUNDS.items()
        for limit in field.metadata
        if isinstance(limit, kind)
    ]
    return ", ".join((unit if unit in UNITS else _type_of(field.annotation), *bounds))


def _type_of(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        paths = {FilePath: "file", DirectoryPath: "folder"}
        return paths.get(annotation) or _type_of(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return _type_of(get_args(annotation)[0])
    if origin is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if isinstance(origin, type):
        return "table" if issubclass(origin, Mapping) else "array"
    if annotation not in _TYPES and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"table: {', '.join(annotation.model_fields)}"
    return _TYPES.get(annotation, "table")


def _default(name: str, field: FieldInfo) -> str:
    if field.default_factory not in {None, dict}:
        return "of the checkout"
    value = field.get_default(call_default_factory=True)
    if name.endswith("_bytes") and value and value % _KIB == 0:
        return f"{_code(str(value))} ({_binary(value)})"
    return _code(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, Address):
        return f"{value.host}:{value.port}"
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} {amount}" for key, amount in value.model_dump().items() if amount)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value or value == 0 else ""


def _binary(size: int) -> str:
    power = max(power for power in range(1, len(_BINARY) + 1) if size % _KIB**power == 0)
    return f"{size // _KIB**power} {_BINARY[power - 1]}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    PAGE.write_text(page())
