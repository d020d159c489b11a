"""`python -m docs.chart_files`: write the generated files of the Helm chart.

They are its values with comments, their strict schema, the table of them in its README, and the permissions of the
services in NATS. The definitions are in `deploy/chart`, those of the services' settings in their `config.py`.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.chart.base import Values
from deploy.chart.services import DECIDED, SettingsOf
from deploy.chart.values import ChartValues
from deploy.nats_users import permissions_of_users
from services.settings import PROCESSES

CHART = Path(__file__).parents[1] / "deploy" / "helm"
BEGIN, END = "<!-- values: written by make docs -->", "<!-- end of values -->"
_WIDTH = 110
_INDENT = 2
# Tables of settings that may also be written as texts, which their definitions parse.
_TEXTS = ("ConfiguredDomain", "TemplateValue")


def files() -> dict[Path, str]:
    """Return the content of each generated file."""
    readme = CHART / "README.md"
    return {
        CHART / "values.yaml": values_file(),
        CHART / "values.schema.json": json.dumps(schema(), indent=1) + "\n",
        CHART / "files" / "nats-permissions.json": json.dumps(permissions_of_users(), indent=1) + "\n",
        readme: _with_table(readme.read_text()),
    }


def values_file() -> str:
    """Return values.yaml: all values with their defaults and descriptions."""
    head = "# All values, written by `make docs` from deploy/chart. README.md has the same as a table.\n"
    return head + "".join(f"{line}\n" if line else "\n" for line in _lines(ChartValues(), 0))


def schema() -> dict[str, Any]:
    """Return the JSON schema of the values; unknown names are refused at every level that the chart reads."""
    made = ChartValues.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
    definitions = made["$defs"]
    for model in _tables(ChartValues):
        for name, field in model.model_fields.items():
            if service := _settings_of(field):
                properties = definitions[model.__name__]["properties"]
                properties[_alias(name, field)] = {"$ref": f"#/$defs/{_settings_name(service)}"}
                definitions |= _settings_schema(service)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_titles(made)}


def table() -> str:
    """Return the table of all values, for the README."""
    rows = ["| Value | Default | What it does |\n", "| --- | --- | --- |\n"]
    rows += [f"| `{path}` | {default} | {text} |\n" for path, default, text in _rows(ChartValues(), "")]
    return "".join(rows)


def _with_table(readme: str) -> str:
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


def _lines(values: Values, depth: int) -> Iterator[str]:
    margin = " " * (_INDENT * depth)
    for name, field in type(values).model_fields.items():
        value = getattr(values, name)
        if depth == 0:
            yield ""
        yield from (f"{margin}# {line}" for line in wrap(_description(field), _WIDTH - len(margin)))
        if isinstance(value, Values):
            yield f"{margin}{_alias(name, field)}:"
            yield from _lines(value, depth + 1)
            continue
        written = yaml.safe_dump({_alias(name, field): _plain(value)}, sort_keys=False, width=_WIDTH)
        yield from (margin + line for line in written.splitlines())


def _rows(values: Values, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(values).model_fields.items():
        path, value = f"{prefix}{_alias(name, field)}", getattr(values, name)
        if isinstance(value, Values):
            yield path, "", _cell(_description(field))
            yield from _rows(value, f"{path}.")
        else:
            yield path, f"`{json.dumps(_plain(value))}`", _cell(_description(field))


def _plain(value: Any) -> Any:
    """Return a default as YAML and JSON have it."""
    return value.model_dump(by_alias=True) if isinstance(value, BaseModel) else value


def _description(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _alias(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _settings_of(field: FieldInfo) -> str | None:
    return next((mark.service for mark in field.metadata if isinstance(mark, SettingsOf)), None)


def _tables(model: type[Values]) -> Iterator[type[Values]]:
    """Yield the class and those of the tables in it."""
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Values):
            yield from _tables(field.annotation)


def _settings_name(service: str) -> str:
    return f"settings-{service}"


def _settings_schema(service: str) -> dict[str, Any]:
    """Return definitions: of the settings of a service that values may have, and of what they refer to."""
    made = PROCESSES[service].model_json_schema(ref_template=f"#/$defs/{_settings_name(service)}-{{model}}")
    definitions = {
        f"{_settings_name(service)}-{name}": {"anyOf": [{"type": "string"}, each]} if name in _TEXTS else each
        for name, each in made.pop("$defs", {}).items()
    }
    properties: Mapping[str, Any] = made["properties"]
    allowed = {
        name: {key: value for key, value in each.items() if key != "default"}
        for name, each in properties.items()
        if name not in DECIDED
    }
    own = {"type": "object", "additionalProperties": False, "properties": allowed}
    return definitions | {_settings_name(service): own}


def _without_titles(node: Any) -> Any:
    """Return a schema without the titles that repeat names."""
    if isinstance(node, list):
        return [_without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_titles(each) for name, each in value.items()}
        if key in {"properties", "$defs"}
        else _without_titles(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
