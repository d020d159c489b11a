"""Inputs of a resource are those of its workflow (engine.md#flyteworkflow-object)."""

import pytest
from flyteidl.core.literals_pb2 import Literal, LiteralMap

from services.executions.rules.flyteworkflow import BuildFailed, build_resource
from tests.support.literals import to_literals
from tests.unit.executions.flyteworkflow.building import EXECUTION
from tests.unit.registry.compiler.drawing import (
    INTEGER,
    STRING,
    compiled,
    enum,
    run,
    workflow,
)

NOTHING = LiteralMap()
INPUTS = {"i": INTEGER, "s": STRING, "e": enum("a", "b")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [("ParameterNotBound", "e"), ("ParameterNotBound", "i"), ("ParameterNotBound", "s")]),
        ({"i": 1, "s": "x", "e": "a", "z": 1}, [("VariableNameNotFound", "z")]),
        ({"i": "1", "s": "x", "e": "a"}, [("MismatchingTypes", "i")]),
        ({"i": 1, "s": "x", "e": "c"}, [("MismatchingTypes", "e")]),
        ({"i": Literal(), "s": "x", "e": "a"}, [("InvalidLiteralType", "i")]),
    ],
)
def test_inputs_that_are_not_those_of_the_workflow_are_refused(
    given: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    closure = compiled(workflow(run("n0", "nothing"), inputs=INPUTS))
    with pytest.raises(BuildFailed) as failed:
        build_resource(closure, to_literals(given), EXECUTION, "p-d")
    named = [(str(error.code), error.description.partition("[")[2].partition("]")[0]) for error in failed.value.errors]
    assert named == expected
    assert {error.node_id for error in failed.value.errors} == {"start-node"}


def test_inputs_that_fit_are_written_as_protojson() -> None:
    closure = compiled(workflow(run("n0", "nothing"), inputs=INPUTS))
    resource = build_resource(closure, to_literals({"i": 2**40, "s": "", "e": "b"}), EXECUTION, "p-d")
    assert resource["inputs"] == {
        "literals": {
            "i": {"scalar": {"primitive": {"integer": str(2**40)}}},
            "s": {"scalar": {"primitive": {"stringValue": ""}}},
            "e": {"scalar": {"primitive": {"stringValue": "b"}}},
        }
    }


def test_message_lists_all_errors_in_order() -> None:
    closure = compiled(workflow(run("n0", "nothing"), inputs={"a": INTEGER, "b": INTEGER}))
    with pytest.raises(BuildFailed) as failed:
        build_resource(closure, NOTHING, EXECUTION, "p-d")
    assert str(failed.value) == (
        "Collected Errors: 2\n"
        "\tError 0: Code: ParameterNotBound, Node Id: start-node, Description: Parameter not bound [a].\n"
        "\tError 1: Code: ParameterNotBound, Node Id: start-node, Description: Parameter not bound [b].\n"
    )
