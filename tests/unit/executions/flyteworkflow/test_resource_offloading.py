"""Offloading: what a resource refers to instead of containing it (engine.md#offloading)."""

import json
from dataclasses import replace
from typing import Any

import pytest
from flyteidl.core.literals_pb2 import LiteralMap

from services.executions.rules.flyteworkflow import (
    BuildFailed,
    Offloading,
    build_resource,
    offload_closure,
    offload_inputs,
)
from tests.support.literals import to_literals
from tests.unit.executions.flyteworkflow.building import EXECUTION
from tests.unit.registry.compiler.drawing import INTEGER, STRING, compiled, run, sub, workflow

INNER = workflow(run("n0", "nothing"), name="inner")
CLOSURE = compiled(workflow(sub("n0", "inner"), inputs={"s": STRING}), [INNER])
INPUTS = to_literals({"s": "x" * 100})
WHOLE = build_resource(CLOSURE, INPUTS, EXECUTION, "p-d")
OFFLOADING = Offloading("s3://closure", "s3://inputs", inline_max_bytes=10_000)
WORKFLOW = ("spec", "subWorkflows", "tasks")


def size(resource: dict[str, Any]) -> int:
    return len(json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode())


def parts(resource: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether closure and inputs are in a resource; check that exactly one form of each is."""
    closure, inputs = resource["spec"] is not None, "inputs" in resource
    assert closure == (resource["tasks"] is not None) == ("subWorkflows" in resource)
    assert resource.get("workflowClosureReference") == (None if closure else "s3://closure")
    assert resource.get("offloadedInputs") == (None if inputs else "s3://inputs")
    return closure, inputs


def test_offloaded_closure_is_a_reference() -> None:
    others = {member: value for member, value in WHOLE.items() if member not in WORKFLOW}
    assert offload_closure(WHOLE, "s3://closure") == others | {
        "spec": None,
        "tasks": None,
        "workflowClosureReference": "s3://closure",
    }


def test_offloaded_inputs_are_a_reference() -> None:
    others = {member: value for member, value in WHOLE.items() if member != "inputs"}
    assert offload_inputs(WHOLE, "s3://inputs") == others | {"offloadedInputs": "s3://inputs"}


def test_nothing_is_offloaded_without_a_reason() -> None:
    resource = OFFLOADING.build(CLOSURE, INPUTS, EXECUTION, "p-d")
    assert resource == WHOLE
    assert OFFLOADING.limit(resource) == WHOLE


@pytest.mark.parametrize("closure", [True, False])
@pytest.mark.parametrize("inputs", [True, False])
def test_offloading_by_a_switch_is_that_of_the_parts(closure: bool, inputs: bool) -> None:
    offloading = replace(OFFLOADING, always_closure=closure, always_inputs=inputs)
    expected = offload_closure(WHOLE, "s3://closure") if closure else WHOLE
    expected = offload_inputs(expected, "s3://inputs") if inputs else expected
    assert offloading.build(CLOSURE, INPUTS, EXECUTION, "p-d") == expected


def test_parts_that_are_too_large_by_themselves_are_not_converted() -> None:
    large = to_literals({"s": "x" * 10_001})
    assert parts(OFFLOADING.build(CLOSURE, large, EXECUTION, "p-d")) == (True, False)
    small = replace(OFFLOADING, inline_max_bytes=CLOSURE.ByteSize() - 1)
    assert parts(small.build(CLOSURE, INPUTS, EXECUTION, "p-d")) == (False, True)


def test_members_of_the_workflow_can_come_from_a_cache() -> None:
    members = {"spec": {"id": "cached"}, "tasks": {}}
    resource = OFFLOADING.build(CLOSURE, INPUTS, EXECUTION, "p-d", lambda _: members)
    assert resource == {key: value for key, value in WHOLE.items() if key not in WORKFLOW} | members


def test_inputs_of_an_offloaded_closure_are_checked() -> None:
    offloading = replace(OFFLOADING, always_closure=True, always_inputs=True)
    with pytest.raises(BuildFailed):
        offloading.build(CLOSURE, LiteralMap(), EXECUTION, "p-d")
    with pytest.raises(BuildFailed):
        offloading.build(CLOSURE, to_literals({"s": 1}), EXECUTION, "p-d")


def test_offloaded_workflow_without_an_entry_is_refused() -> None:
    broken = compiled(workflow(run("n0", "nothing"), inputs={"i": INTEGER}))
    del broken.primary.connections.downstream["start-node"]
    with pytest.raises(BuildFailed, match="no entry node"):
        replace(OFFLOADING, always_closure=True).build(broken, to_literals({"i": 1}), EXECUTION, "p-d")


SIZE = size(WHOLE)
INPUTS_SIZE = size(WHOLE["inputs"])
CLOSURE_SIZE = sum(size(WHOLE[member]) for member in WORKFLOW)


@pytest.mark.parametrize(
    ("inline_max_bytes", "expected"),
    [
        (SIZE, (True, True)),
        (SIZE - 1, (True, False)),
        (SIZE - INPUTS_SIZE, (True, False)),
        (SIZE - INPUTS_SIZE - 1, (False, True)),
        (SIZE - CLOSURE_SIZE, (False, True)),
        (SIZE - CLOSURE_SIZE - 1, (False, False)),
        (0, (False, False)),
    ],
)
def test_inputs_are_offloaded_if_that_suffices_else_the_closure_else_both(
    inline_max_bytes: int, expected: tuple[bool, bool]
) -> None:
    assert INPUTS_SIZE < CLOSURE_SIZE
    offloading = replace(OFFLOADING, inline_max_bytes=inline_max_bytes)
    assert parts(offloading.limit(WHOLE)) == expected


def test_what_is_offloaded_already_is_not_offloaded_again() -> None:
    nothing_fits = replace(OFFLOADING, inline_max_bytes=0)
    bare = nothing_fits.limit(WHOLE)
    assert nothing_fits.limit(bare) == bare
    assert parts(nothing_fits.limit(offload_inputs(WHOLE, "s3://inputs"))) == (False, False)
    assert parts(nothing_fits.limit(offload_closure(WHOLE, "s3://closure"))) == (False, False)
