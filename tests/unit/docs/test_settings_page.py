"""docs/settings.md is current, and every setting is defined once, explained, and in one unit for its kind."""

from collections import defaultdict

import pytest

from deploy.sandbox.settings import VARIABLES
from docs.settings_page import PAGE, UNITS, page
from services.kit.process.settings import ProcessSettings
from services.settings import PROCESSES

# Numbers that are neither times nor sizes.
COUNTS = {
    "database_pool_size",
    "max_workflow_nodes",
    "max_parallelism",
    "max_label_entries",
    "max_annotation_entries",
    "lane_length",
    "execution_events",
    "trusted_proxies",
    "batch_events",
}


def test_settings_page_is_current() -> None:
    assert PAGE.read_text() == page(), "make docs"


@pytest.mark.parametrize("process", PROCESSES)
def test_every_setting_has_a_description(process: str) -> None:
    assert not [name for name, field in PROCESSES[process].model_fields.items() if not field.description]


def test_every_variable_of_the_sandbox_has_a_description() -> None:
    assert all(variable.description for variable in VARIABLES)


@pytest.mark.parametrize("process", PROCESSES)
def test_name_of_a_time_or_a_size_ends_with_its_unit(process: str) -> None:
    fields = PROCESSES[process].model_fields
    numbers = {name for name, field in fields.items() if field.annotation in {int, float}}
    assert not [name for name in numbers - COUNTS if not name.endswith(UNITS)]
    # A timedelta or a text such as 10Mi has a unit of its own.
    assert not [name for name in set(fields) - numbers if "timedelta" in repr(fields[name].annotation)]
    assert not [name for name in set(fields) - numbers if {"size", "timeout", "expiry", "life"} & set(name.split("_"))]


def test_every_setting_of_services_is_defined_once() -> None:
    definitions = defaultdict(set)
    for model in PROCESSES.values():
        for kind in model.__mro__:
            if issubclass(kind, ProcessSettings):
                for name in kind.__annotations__:
                    definitions[name].add(kind)
    assert len(definitions) > len(ProcessSettings.model_fields)
    assert not {name: kinds for name, kinds in definitions.items() if len(kinds) > 1}


def test_gateway_and_services_have_the_same_size_limit() -> None:
    gateway, services = (model.model_fields["max_message_bytes"] for model in (PROCESSES["gateway"], ProcessSettings))
    assert gateway.default == services.default
