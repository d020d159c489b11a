"""The chart's generated files are current, and its templates name only what exists."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from deploy.chart.base import Values
from deploy.chart.values import ChartValues
from deploy.sandbox.layout import SERVICES
from docs.chart_files import CHART, files
from tests.support.chart_queries import queried_metrics
from tests.support.helm import merge

TEMPLATES = sorted((CHART / "templates").rglob("*.*"))
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
NAMED = re.compile(r"\.Values((?:\.\w+)+)")
DEFINED = re.compile(r'define "([^"]+)"')
INCLUDED = re.compile(r'include "([^"]+)"')


def descriptions(model: type[Values], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the description of each value."""
    for field in model.model_fields.values():
        path = f"{prefix}{field.alias}"
        yield path, field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, Values):
            yield from descriptions(field.annotation, f"{path}.")


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_generated_file_is_current(file: Path) -> None:
    assert file.read_text() == files()[file], "make docs"


def test_every_value_has_a_description() -> None:
    assert not [path for path, text in descriptions(ChartValues) if not text]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_values_of_every_example_are_allowed(example: Path) -> None:
    defaults = ChartValues().model_dump(by_alias=True)
    ChartValues.model_validate(merge(defaults, yaml.safe_load(example.read_text())))


def test_templates_name_only_values_that_exist() -> None:
    defaults = ChartValues().model_dump(by_alias=True)
    # Passwords that the chart makes are kept among the values while it renders.
    defaults["trial"]["passwords"] = {}
    unknown = []
    for template in TEMPLATES:
        for path in NAMED.findall(template.read_text()):
            table: Any = defaults
            for name in path.split(".")[1:]:
                if not isinstance(table, dict) or not table:
                    break
                if name not in table:
                    unknown.append(f"{template.name}: {path}")
                    break
                table = table[name]
    assert not unknown


def test_every_part_of_the_values_is_named_by_a_template() -> None:
    text = "".join(template.read_text() for template in TEMPLATES)
    names = {path.rpartition(".")[2] for path, _ in descriptions(ChartValues)} - {"global"}
    assert not {name for name in names if not re.search(rf"\b{name}\b", text)}


def test_templates_include_only_what_is_defined() -> None:
    text = "".join(template.read_text() for template in TEMPLATES)
    defined = DEFINED.findall(text)
    assert sorted(set(defined)) == sorted(defined)
    assert set(INCLUDED.findall(text)) == set(defined)


def test_dashboard_and_alerts_query_metrics_of_the_code() -> None:
    for service in SERVICES:
        import_module(f"services.{service}.app")
    # The names with the suffixes of their samples; prometheus-client has no other list of them.
    known = set(REGISTRY._names_to_collectors)
    queried = {name for name in queried_metrics() if name.startswith("flyteplane_")}
    assert queried
    assert not queried - known
