"""Errors of executions: as an input of a failure node (flytekit's `FlyteError`), and of this engine itself."""

from collections.abc import Mapping

from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.interface_pb2 import VariableMap
from flyteidl.core.literals_pb2 import Literal, Scalar, Union
from flyteidl.core.types_pb2 import Error, LiteralType, SimpleType
from flyteidl.core.workflow_pb2 import Node

from deploy.sandbox.engine.graph.library import Library
from services.contracts.identifiers import key_of


def engine_failed(error: BaseException) -> ExecutionError:
    """Return the error of an execution that cannot go on because of a fault of this engine."""
    message = (
        "the engine cannot run this execution, by a fault of its own; its log has the stack trace "
        f"({type(error).__name__}: {error})"
    )
    return ExecutionError(code="EngineFailed", message=message, kind=ExecutionError.SYSTEM)


def error_inputs(spec: Node, library: Library, error: ExecutionError, failed_node: str) -> Mapping[str, Literal]:
    """Return the error for every input of the failure node that is of the type ERROR, or may be.

    Args:
        spec: The failure node.
        library: What it refers to.
        error: Of the workflow.
        failed_node: The unique id of the node that failed.
    """
    literal = Literal(scalar=Scalar(error=Error(failed_node_id=failed_node, message=error.message)))
    inputs: dict[str, Literal] = {}
    for name, variable in _inputs_of(spec, library).variables.items():
        if variable.type.simple == SimpleType.ERROR:
            inputs[name] = literal
        for variant in variable.type.union_type.variants:
            if variant.simple == SimpleType.ERROR:
                inputs[name] = _in_union(literal, variant)
    return inputs


def _in_union(literal: Literal, variant: LiteralType) -> Literal:
    return Literal(scalar=Scalar(union=Union(value=literal, type=variant)))


def _inputs_of(spec: Node, library: Library) -> VariableMap:
    """Return the inputs of the task or the sub-workflow of a node; of other nodes none is known."""
    task = library.tasks.get(key_of(spec.task_node.reference_id))
    if task is not None:
        return task.interface.inputs
    workflow = library.workflows.get(key_of(spec.workflow_node.sub_workflow_ref))
    return workflow.template.interface.inputs if workflow is not None else VariableMap()
