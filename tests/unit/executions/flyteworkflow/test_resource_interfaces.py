"""Interfaces in a resource lose what an engine does not read (engine.md#flyteworkflow-object)."""

from collections.abc import Callable
from typing import Any

import pytest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.types_pb2 import (
    LiteralType,
    StructuredDatasetType,
    TypeAnnotation,
    TypeStructure,
)
from google.protobuf.struct_pb2 import Struct

from services.executions.rules.flyteworkflow import build_resource
from services.executions.rules.flyteworkflow.interfaces import strip_interface
from tests.support.default_inputs import default_inputs
from tests.unit.executions.flyteworkflow.building import EXECUTION, key
from tests.unit.registry.compiler.drawing import (
    FLOAT,
    INTEGER,
    STRING,
    compiled,
    list_of,
    map_of,
    run,
    tagged,
    union,
    workflow,
)


def built(closure: CompiledWorkflowClosure) -> dict[str, Any]:
    inputs = default_inputs(closure.primary.template.interface)
    return build_resource(closure, inputs, EXECUTION, "p-d")


def annotated(literal_type: LiteralType, name: str = "note") -> LiteralType:
    """Return a type with metadata and an annotation."""
    result = LiteralType()
    result.CopyFrom(literal_type)
    result.metadata.update({"schema": 1})
    notes = Struct()
    notes.update({name: 1})
    result.annotation.CopyFrom(TypeAnnotation(annotations=notes))
    return result


def dataset(literal_type: LiteralType) -> LiteralType:
    column = StructuredDatasetType.DatasetColumn(name="c", literal_type=literal_type)
    return LiteralType(structured_dataset_type=StructuredDatasetType(columns=[column], format="parquet"))


def dataclass_of(literal_type: LiteralType) -> LiteralType:
    return LiteralType(simple="STRUCT", structure=TypeStructure(dataclass_type={"f": literal_type}))


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: inner,
        lambda inner: tagged(inner, "tag"),
        list_of,
        map_of,
        lambda inner: union(STRING, inner),
        dataset,
        dataclass_of,
        lambda inner: list_of(map_of(union(inner, dataclass_of(dataset(inner))))),
    ],
)
def test_types_lose_metadata_and_annotations_at_any_depth_and_nothing_else(
    around: Callable[[LiteralType], LiteralType],
) -> None:
    given = around(annotated(annotated(INTEGER)))
    interface = TypedInterface(
        inputs=VariableMap(variables={"i": Variable(type=annotated(given), description="an input")}),
        outputs=VariableMap(variables={"o": Variable(type=given)}),
    )
    strip_interface(interface)
    expected = Variable(type=around(INTEGER))
    assert interface == TypedInterface(
        inputs=VariableMap(variables={"i": expected}), outputs=VariableMap(variables={"o": expected})
    )


def test_annotation_for_keys_of_cached_results_is_kept() -> None:
    kept = annotated(FLOAT, "cache-key-metadata")
    interface = TypedInterface(inputs=VariableMap(variables={"i": Variable(type=list_of(kept))}))
    strip_interface(interface)
    kept.ClearField("metadata")
    assert interface.inputs.variables["i"].type == list_of(kept)


def test_interfaces_of_tasks_and_workflows_are_stripped_and_the_closure_is_not() -> None:
    closure = compiled(workflow(run("n0", "double", x=".i"), inputs={"i": INTEGER}, outputs={"o": (INTEGER, "n0.o0")}))
    for interface in (closure.primary.template.interface, closure.tasks[0].template.interface):
        for variable in interface.outputs.variables.values():
            variable.description = "the result"
            variable.type.metadata.update({"schema": 1})
    before = closure.SerializeToString(deterministic=True)
    resource = built(closure)
    plain = {"type": {"simple": "INTEGER"}}
    assert resource["spec"]["outputs"]["variables"] == {"o": plain}
    assert resource["tasks"][key("double")]["interface"]["outputs"]["variables"] == {"o0": plain}
    assert closure.SerializeToString(deterministic=True) == before
