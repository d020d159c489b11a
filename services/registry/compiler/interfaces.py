"""Inputs and outputs of nodes, by their target (compiler.md#node-interfaces)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.core.interface_pb2 import TypedInterface, Variable
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import GateNode, Node, WorkflowTemplate

from services.contracts.casting import Comparison
from services.contracts.identifiers import IdentifierKey, key_of
from services.registry.compiler.errors import Code, Errors

Types: TypeAlias = Mapping[str, LiteralType]


@dataclass(frozen=True)
class Interface:
    """Types by variable name."""

    inputs: Types = field(default_factory=dict)
    outputs: Types = field(default_factory=dict)


@dataclass(frozen=True)
class Library:
    """Everything that nodes of one compilation may refer to."""

    tasks: Mapping[IdentifierKey, CompiledTask]
    launch_plans: Mapping[IdentifierKey, LaunchPlan]
    sub_workflows: Mapping[IdentifierKey, WorkflowTemplate]
    comparison: Comparison
    # A cache of valid interfaces of tasks: most tasks are used by many nodes.
    task_interfaces: dict[IdentifierKey, Interface] = field(default_factory=dict)


def typed_interface(interface: TypedInterface, node_id: str, errors: Errors) -> Interface:
    """Return `interface` and collect an error for each variable without a name or a type."""
    return Interface(
        _types(interface.inputs.variables, node_id, errors), _types(interface.outputs.variables, node_id, errors)
    )


def reference_interface(node: Node, template: WorkflowTemplate, library: Library, errors: Errors) -> Interface | None:
    """Return the interface of a task, workflow or launch plan node, or of a gate for a signal or sleep.

    Return None when there is no target or it has no interface; the error is collected. Interfaces of branches and
    approvals follow from their bindings, not from here.
    """
    target = node.WhichOneof("target")
    if target == "task_node":
        return _task_interface(node, library, errors)
    if target == "workflow_node":
        return _workflow_interface(node, template, library, errors)
    if target == "gate_node":
        return _gate_interface(node.id, node.gate_node, errors)
    errors.value_required(node.id, "Target")
    return None


def _task_interface(node: Node, library: Library, errors: Errors) -> Interface | None:
    if not node.task_node.HasField("reference_id"):
        errors.value_required(node.id, "TaskNode.ReferenceId")
        return None
    key = key_of(node.task_node.reference_id)
    if key in library.task_interfaces:
        return library.task_interfaces[key]
    declared = library.tasks[key].template.interface
    library.comparison.spend(_size(declared))
    own_errors = errors.child()
    interface = typed_interface(declared, node.id, own_errors)
    if not own_errors:
        library.task_interfaces[key] = interface
    return interface


def _workflow_interface(node: Node, template: WorkflowTemplate, library: Library, errors: Errors) -> Interface | None:
    reference = node.workflow_node.WhichOneof("reference")
    if reference == "launchplan_ref":
        identifier = node.workflow_node.launchplan_ref
        if is_own(identifier, template):
            library.comparison.spend(_size(template.interface))
            return typed_interface(template.interface, node.id, errors)
        return _launch_plan_interface(node, library.launch_plans[key_of(identifier)], library, errors)
    if reference is None:
        errors.no_workflow(node.id, "")
        return None
    sub_workflow = library.sub_workflows[key_of(node.workflow_node.sub_workflow_ref)]
    if not sub_workflow.HasField("interface"):
        errors.value_required(node.id, "WorkflowNode.Template.Interface")
        return None
    library.comparison.spend(_size(sub_workflow.interface))
    return typed_interface(sub_workflow.interface, node.id, errors)


def is_own(identifier: Identifier, template: WorkflowTemplate) -> bool:
    """Return whether a launch plan reference has the id of the workflow that contains it."""
    return template.HasField("id") and key_of(identifier) == key_of(template.id)


def _launch_plan_interface(node: Node, plan: LaunchPlan, library: Library, errors: Errors) -> Interface | None:
    if not plan.closure.HasField("expected_inputs"):
        errors.value_required(node.id, "WorkflowNode.ExpectedInputs")
        return None
    parameters = plan.closure.expected_inputs.parameters
    outputs = plan.closure.expected_outputs.variables
    library.comparison.spend(len(parameters) + len(outputs))
    bound = {binding.var for binding in node.inputs}
    # A node may bind inputs with defaults and need not.
    inputs = {name: value.var for name, value in parameters.items() if value.required or name in bound}
    return Interface(_types(inputs, node.id, errors), _types(outputs, node.id, errors))


def _gate_interface(node_id: str, gate: GateNode, errors: Errors) -> Interface | None:
    condition = gate.WhichOneof("condition")
    if condition == "sleep":
        return Interface()
    if condition != "signal":
        errors.add(Code.NO_CONDITION_FOUND, node_id, f"Can't find any condition in gate node [{node_id}].")
        return None
    if not gate.signal.HasField("type"):
        errors.value_required(node_id, "GateNode.Signal.Type")
        return None
    if not gate.signal.output_variable_name:
        errors.value_required(node_id, "GateNode.Signal.OutputVariableName")
        return None
    return Interface(outputs={gate.signal.output_variable_name: gate.signal.type})


def effective_outputs(node: Node, interface: Interface, comparison: Comparison, errors: Errors) -> Types:
    """Return the outputs by the names that promises use: an alias replaces the name (compiler.md#output-aliases)."""
    if not node.output_aliases:
        return interface.outputs
    comparison.spend(len(interface.outputs) + len(node.output_aliases))
    outputs = dict(interface.outputs)
    renamed: set[str] = set()
    for alias in node.output_aliases:
        if alias.var in renamed:
            errors.add(
                Code.DUPLICATE_ALIAS,
                node.id,
                f"Duplicate alias [{alias.alias}] found. An output alias can only be used once in the Workflow.",
            )
        elif alias.var not in interface.outputs:
            errors.not_bound(node.id, alias.alias)
        else:
            outputs.pop(alias.var, None)
        renamed.add(alias.var)
    for alias in node.output_aliases:
        if alias.var in interface.outputs:
            outputs[alias.alias] = interface.outputs[alias.var]
    return outputs


def repeated(interface: Interface, bound: Iterable[str], comparison: Comparison) -> Interface:
    """Return the interface of an array of nodes: lists of their inputs, but for `bound` ones, and of their outputs."""
    comparison.spend_size(*interface.inputs.values(), *interface.outputs.values())
    the_same = set(bound)
    inputs = {name: each if name in the_same else _list_of(each) for name, each in interface.inputs.items()}
    return Interface(inputs, {name: _list_of(each) for name, each in interface.outputs.items()})


def _list_of(literal_type: LiteralType) -> LiteralType:
    return LiteralType(collection_type=literal_type)


def _types(variables: Mapping[str, Variable], node_id: str, errors: Errors) -> Types:
    for name in sorted(variables):
        if not name:
            errors.value_required(node_id, "paramName")
        if not variables[name].HasField("type"):
            errors.value_required(node_id, "param.Type")
    return {name: variable.type for name, variable in variables.items()}


def _size(interface: TypedInterface) -> int:
    return len(interface.inputs.variables) + len(interface.outputs.variables)
