"""flytekit's lists, by pages, filters and orders as it spells them, and its activation of launch plans."""

import json
from itertools import chain
from typing import Any

import pytest

from tests.integration.stack.shapes import NEWER, OLDER, TASKS
from tests.support import clients
from tests.support.sandbox import Sandbox

# Small: every list of names has several pages, and the last page of some is full.
LIMIT = 10
WHERE = ("-p", "flytesnacks", "-d", "development")
SCHEDULED = ["shapes.by_alias", "shapes.every_ten_minutes", "shapes.every_two_days", "shapes.hourly"]


@pytest.fixture(scope="session")
async def lists(sandbox: Sandbox, entities: Any) -> dict[str, list[list[str]]]:
    """Return the pages of every list of the older version."""
    assert entities
    result: dict[str, list[list[str]]] = await clients.script_result(sandbox, "listed.py", OLDER, str(LIMIT))
    return result


def older(*names: str) -> list[str]:
    return [f"{name} {OLDER}" for name in names]


@pytest.mark.long
def test_pages_follow_one_another_by_their_tokens(lists: dict[str, list[list[str]]]) -> None:
    for name, pages in lists.items():
        if name != "tasks of a version":
            # A full page may be the last: only the next, empty one shows it (lists.md#token).
            assert [len(page) for page in pages[:-1]] == [LIMIT] * (len(pages) - 1), name
            assert len(pages[-1]) < LIMIT, name


@pytest.mark.parametrize("kind", ["tasks", "workflows", "launch_plans"])
def test_list_has_every_entity_once_in_order(kind: str, lists: dict[str, list[list[str]]], entities: Any) -> None:
    listed = list(chain(*lists[f"{kind.replace('_', ' ')} by name"]))
    assert listed == older(*sorted(entities[kind]))


@pytest.mark.parametrize("kind", ["task", "workflow", "launch_plan"])
def test_name_with_several_versions_is_listed_once(kind: str, lists: dict[str, list[list[str]]], entities: Any) -> None:
    listed = list(chain(*lists[f"{kind} names"]))
    assert listed == sorted(set(listed))
    assert set(entities[f"{kind}s"]) <= set(listed)
    assert list(chain(*lists[f"{kind} names falling"])) == listed[::-1]
    assert sorted(chain(*lists[f"{kind} names, oldest first"])) == listed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw containers", older("shapes.tasks.area")),
        ("two workflows", older("shapes.flows.inner", "shapes.flows.middle")),
        ("launch plans of a workflow", older("shapes.fixed", "shapes.flows.inner", "shapes.given", "shapes.laden")),
        ("scheduled launch plans", older(*SCHEDULED)),
        ("versions of a workflow, newest first", [f"shapes.flows.inner {version}" for version in (NEWER, OLDER)]),
        ("versions of a workflow, oldest first", [f"shapes.flows.inner {version}" for version in (OLDER, NEWER)]),
        ("versions of a launch plan, newest first", [f"shapes.fixed {version}" for version in (NEWER, OLDER)]),
    ],
)
def test_filters_select_and_orders_sort(name: str, expected: list[str], lists: dict[str, list[list[str]]]) -> None:
    assert list(chain(*lists[name])) == expected


def test_filters_are_combined(lists: dict[str, list[list[str]]], entities: Any) -> None:
    chosen = [name for name in entities["tasks"] if "shapes.types." in name and name != "shapes.types.enums"]
    assert list(chain(*lists["some tasks, names falling"])) == older(*sorted(chosen, reverse=True))


def test_tasks_of_a_version_are_listed_without_their_names(lists: dict[str, list[list[str]]], entities: Any) -> None:
    (tasks,) = lists["tasks of a version"]
    assert len(tasks) == TASKS
    assert sorted(tasks) == older(*sorted(entities["tasks"]))


def test_launch_plan_with_auto_activation_is_active_in_its_last_version(lists: dict[str, list[list[str]]]) -> None:
    # Both versions are activated when they are registered; the older one is registered first.
    for name in ("active launch plans", "active launch plans by filter"):
        of_ours = [plan for plan in chain(*lists[name]) if plan.startswith("shapes.active")]
        assert of_ours == [f"shapes.active {NEWER}"], name


async def test_one_version_of_a_launch_plan_is_active_at_a_time(sandbox: Sandbox, lists: object) -> None:
    assert lists, "the lists are made before launch plans are activated"
    result = await clients.script_result(sandbox, "activated.py", OLDER, NEWER)
    assert result.pop("another").startswith("shapes.from_remote launch plan with different structure already exists")
    assert result.pop("absent").startswith("missing entity of type LAUNCH_PLAN with identifier")
    registered = [OLDER, "shapes.plans.timed", 7, "*/5 * * * *"]
    assert result == {
        "latest": NEWER,
        "scheduled": True,
        "none": None,
        "activated": OLDER,
        "again": OLDER,
        "replaced": NEWER,
        "another deactivated": NEWER,
        "deactivated": None,
        "registered": registered,
        "registered again": registered,
        "activated by itself": OLDER,
    }


async def test_pyflyte_activates_and_shows_launch_plans(sandbox: Sandbox, lists: object) -> None:
    assert lists, "the lists are made before launch plans are activated"

    async def pyflyte(*command: str) -> str:
        return await clients.output(sandbox, clients.EXAMPLES, "pyflyte", *command)

    # Without a version it is the newest one.
    switched = await pyflyte("launchplan", *WHERE, "--activate", "shapes.given")
    assert f"ACTIVE: shapes.given:{NEWER}" in switched
    shown = await pyflyte("get", "launchplan", *WHERE, "shapes.given", NEWER)
    assert json.loads(shown)["closure"]["state"] == "ACTIVE"
    table = await pyflyte("get", "launchplan", *WHERE, "shapes.given")
    rows = [line.split() for line in table.replace("│", " ").splitlines() if "shapes.given" in line]
    assert sorted(row[1:3] for row in rows) == [[NEWER, "ACTIVE"], [OLDER, "INACTIVE"]]
