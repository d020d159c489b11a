"""Everything that flytekit can express is registered, once and again, and read back as it was sent."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.integration.stack import shapes as package
from tests.integration.stack.compiled import as_compiled, bare
from tests.integration.stack.shapes import EVERYTHING, LAUNCH_PLANS, NEWER, OLDER, TASKS, WORKFLOWS
from tests.support import clients
from tests.support.sandbox import Sandbox

# flytekit sends a failing call four times, also one with ALREADY_EXISTS (clients.md#flytekit-channel-and-retries).
SENT_IN_VAIN = 4


@pytest.mark.parametrize("version", [OLDER, NEWER])
async def test_every_shape_is_registered_and_already_exists_the_second_time(
    version: str, sandbox: Sandbox, shapes: dict[str, list[str]]
) -> None:
    assert shapes[version] == ["OK"] * EVERYTHING
    assert await package.register(sandbox, version) == ["ALREADY_EXISTS"] * (EVERYTHING * SENT_IN_VAIN)


@pytest.mark.usefixtures("shapes")
async def test_other_structure_of_a_version_is_refused_with_the_difference(sandbox: Sandbox) -> None:
    done = await clients.register(sandbox, clients.EXAMPLES, "--version", OLDER, "shapes")
    assert done.returncode != 0
    assert "task with different structure already exists" in done.stdout
    assert "/template/container/args" in done.stdout


def test_every_task_is_read_back_as_it_was_sent(entities: Any) -> None:
    assert len(entities["tasks"]) == TASKS
    for name, forms in entities["tasks"].items():
        assert forms["read"]["closure"]["compiled_task"]["template"] == forms["sent"]["template"], name
        assert forms["read"].get("short_description") == summary(forms["sent"]), name
        assert forms["fetched"] == forms["understood"], name


def test_every_launch_plan_is_read_back_as_it_was_sent(entities: Any) -> None:
    assert len(entities["launch_plans"]) == LAUNCH_PLANS
    for name, forms in entities["launch_plans"].items():
        assert forms["read"]["id"] == forms["sent"]["id"], name
        assert forms["read"]["spec"] == forms["sent"]["spec"], name
        assert forms["fetched"] == forms["understood"], name


def test_launch_plan_has_expected_inputs_and_outputs(entities: Any) -> None:
    for name, forms in entities["launch_plans"].items():
        of = entities["workflows"][forms["sent"]["spec"]["workflow_id"]["name"]]["sent"]["template"]["interface"]
        closure = forms["read"]["closure"]
        assert closure["expected_inputs"] == forms["sent"]["spec"]["default_inputs"], name
        assert closure.get("expected_outputs", {}) == of.get("outputs", {}), name


def test_every_workflow_is_read_back_as_it_was_sent(entities: Any) -> None:
    assert len(entities["workflows"]) == WORKFLOWS
    for name, forms in entities["workflows"].items():
        compiled, sent = forms["read"]["closure"]["compiled_workflow"], forms["sent"]
        assert bare(compiled["primary"]["template"]) == as_compiled(sent["template"]), name
        assert [bare(sub["template"]) for sub in by_name(compiled.get("sub_workflows", []))] == [
            as_compiled(template) for template in sent.get("sub_workflows", [])
        ], name
        assert forms["read"].get("short_description") == summary(sent), name
        assert seen(forms["fetched"]) == seen(forms["understood"]), name


def test_workflow_is_read_back_with_its_tasks(entities: Any) -> None:
    sent = {name: forms["sent"]["template"] for name, forms in entities["tasks"].items()}
    used = set()
    for name, forms in entities["workflows"].items():
        for task in forms["read"]["closure"]["compiled_workflow"].get("tasks", []):
            template = task["template"]
            # Tasks of another example were registered by that one.
            if template["id"]["version"] == OLDER:
                interface = {"inputs": {}, "outputs": {}, **sent[template["id"]["name"]].get("interface", {})}
                assert template == {**sent[template["id"]["name"]], "interface": interface}, name
            used.add(template["id"]["name"])
    assert {"shapes.tasks.documented", "shapes.tasks.in_a_pod", "report.double"} <= used


def summary(spec: dict[str, Any]) -> str | None:
    """Return the short description that was sent."""
    text: str | None = spec.get("description", {}).get("short_description")
    return text


def by_name(compiled: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return sub-workflows in the order of flytekit."""
    return sorted(compiled, key=lambda sub: str(sub["template"]["id"]["name"]))


def seen(template: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of FlyteRemote's template to compare: of nodes only the ids, as it changes and moves them."""
    failure = [template["failure_node"]] if "failure_node" in template else []
    parts = {key: value for key, value in template.items() if key not in {"nodes", "failure_node"}}
    return {**parts, "nodes": sorted(str(node["id"]) for node in [*template["nodes"], *failure])}
