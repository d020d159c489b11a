"""Requests that are small and would take long to compile."""

import time

import pytest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.types_pb2 import LiteralType, SchemaType, UnionType
from flyteidl.core.workflow_pb2 import Node, WorkflowTemplate

from services.contracts.casting import MAX_STEPS, Comparison, TypesTooLarge
from services.registry.compiler import CompilationFailed, requirements
from services.registry.compiler.requirements import MAX_NODES

MOST_SECONDS = 3.0


@pytest.mark.parametrize("in_sub_workflows", [False, True])
def test_too_many_nodes_are_refused_before_they_are_read(in_sub_workflows: bool) -> None:
    template = WorkflowTemplate(id=Identifier(name="w"), nodes=[Node()] * (0 if in_sub_workflows else 500_000))
    started = time.process_time()
    with pytest.raises(CompilationFailed, match=f"more than {MAX_NODES} nodes"):
        requirements(template, [WorkflowTemplate()] * (500_000 if in_sub_workflows else 0))
    assert time.process_time() - started < MOST_SECONDS


def test_columns_of_every_variant_count_as_steps() -> None:
    columns = [SchemaType.SchemaColumn(name=str(at)) for at in range(50_000)]
    variant = LiteralType(schema=SchemaType(columns=[SchemaType.SchemaColumn(name="other")]))
    declared = LiteralType(union_type=UnionType(variants=[variant] * 20_000))
    started = time.process_time()
    with pytest.raises(TypesTooLarge):
        Comparison(MAX_STEPS).castable(LiteralType(schema=SchemaType(columns=columns)), declared)
    assert time.process_time() - started < MOST_SECONDS
