"""flytekit's client archives names, and docstrings are read back as descriptions."""

from typing import Any

import pytest

from tests.integration.stack.shapes import NEWER, OLDER
from tests.support import clients
from tests.support.sandbox import Sandbox

ACTIVE, ARCHIVED = 0, 1
NESTED, DESCRIBED, DOCUMENTED = "shapes.flows.nested", "shapes.tasks.described", "shapes.tasks.documented"


@pytest.fixture(scope="session")
async def named(sandbox: Sandbox, shapes: dict[str, list[str]]) -> Any:
    """Return the result of each step."""
    assert shapes
    return await clients.script_result(sandbox, "named.py", OLDER)


def test_name_that_is_archived_and_activated_again_has_its_description(named: Any) -> None:
    assert named["at first"] == [ACTIVE, "", 1]
    assert named["archived"] == [ARCHIVED, "Three deep", 0]
    # An empty description overwrites none (registry.md#updatenamedentity).
    assert named["back"] == [ACTIVE, "Three deep", 1]


@pytest.mark.parametrize(("kind", "name"), [("tasks", DOCUMENTED), ("tasks", DESCRIBED), ("workflows", NESTED)])
def test_description_is_read_back_as_it_was_sent(kind: str, name: str, named: Any, entities: Any) -> None:
    sent, read = entities[kind][name]["sent"]["description"], named[name]
    assert read["short_description"] == sent["short_description"]
    assert read.get("long_description", {}) == sent.get("long_description", {})
    assert read.get("source_code", {}) == sent.get("source_code", {})
    assert read["id"] == entities[kind][name]["sent"]["template"]["id"]


def test_every_version_has_its_description(named: Any) -> None:
    assert named["versions described"] == sorted([OLDER, NEWER])
