"""Branch nodes: their cases, and the conditions that choose among them.

See compiler.md#branch-nodes and compiler.md#conditions.
"""

from flyteidl.core.condition_pb2 import BooleanExpression, Operand
from flyteidl.core.types_pb2 import LiteralType
from flyteidl.core.workflow_pb2 import Node

from services.contracts.casting import Comparison
from services.contracts.literals import primitive_type, scalar_type
from services.registry.compiler.errors import Code, Errors
from services.registry.compiler.interfaces import Interface, Types
from services.registry.compiler.requirements import case_nodes

# Ids of outer branches are prefixed to those of inner nodes at every level: without a bound a small request could grow
# to gigabytes. Far above the 63 characters that Kubernetes allows in labels.
MAX_NODE_ID_BYTES = 1024


def missing_part(branch: Node) -> str | None:
    """Return the name of the first missing part that the interface of a branch requires, None when none is missing."""
    if not branch.branch_node.HasField("if_else"):
        return "Branch.IfElse"
    if_else = branch.branch_node.if_else
    if not if_else.HasField("case"):
        return "Branch.IfElse.Case"
    if not if_else.case.HasField("then_node"):
        return "Branch.IfElse.Case.ThenNode"
    return None if all(block.HasField("then_node") for block in if_else.other) else "IfElse.Case.ThenNode"


def common_outputs(cases: list[tuple[str, Interface]], comparison: Comparison, errors: Errors) -> Types:
    """Return the outputs that all cases have; types of one name must be equal in every detail."""
    first = cases[0][1].outputs
    shared = dict(first)
    for node_id, interface in cases[1:]:
        # Each case is compared with all outputs that are shared so far.
        comparison.spend(len(shared))
        comparison.spend_size(*shared.values())
        shared = {name: literal_type for name, literal_type in shared.items() if name in interface.outputs}
        for name in sorted(shared):
            if first[name] != interface.outputs[name]:
                _types_differ(node_id, name, first[name], interface.outputs[name], errors)
    return shared


def _types_differ(node_id: str, variable: str, first: LiteralType, other: LiteralType, errors: Errors) -> None:
    # Whole types: they may differ in what other messages leave out.
    errors.add(
        Code.MISMATCHING_TYPES,
        node_id,
        f"Variable [{variable}] (type [{errors.text(first)}]) doesn't match expected type [{errors.text(other)}].",
    )


def check_branch(branch: Node, interface: Interface | None, comparison: Comparison, errors: Errors) -> None:
    """Collect errors for cases without a node or condition, a missing default, and invalid conditions."""
    if_else = branch.branch_node.if_else
    if not if_else.HasField("case"):
        _no_condition(branch.id, errors)
    blocks = [*([if_else.case] if if_else.HasField("case") else []), *if_else.other]
    for block in blocks:
        inputs = None if interface is None else interface.inputs
        if block.HasField("condition"):
            _Conditions(branch.id, inputs, comparison).check(block.condition, errors)
        else:
            _no_condition(branch.id, errors)
        if not block.HasField("then_node"):
            errors.add(Code.BRANCH_NODE_ID_NOT_FOUND, branch.id, "BranchNode not assigned")
    if if_else.WhichOneof("default") is None:
        errors.add(
            Code.BRANCH_NODE_HAS_NO_DEFAULT,
            branch.id,
            "Branch Node must have either the else case set or a default error.",
        )


def rename_inner(node: Node) -> list[Node]:
    """Prefix the id of a branch to those of the nodes in its cases, at every level; return all renamed nodes.

    Include branches that an array repeats. Stop at an id longer than MAX_NODE_ID_BYTES, which no node may have.
    """
    renamed: list[Node] = []
    pending = [node]
    while pending:
        outer = innermost(pending.pop())
        if len(outer.id.encode()) > MAX_NODE_ID_BYTES:
            continue
        for inner in case_nodes(outer):
            inner.id = f"{outer.id}-{inner.id}"
            renamed.append(inner)
            pending.append(inner)
    return renamed


def innermost(node: Node) -> Node:
    """Return the node that `node` runs: itself, or the innermost one of arrays of arrays."""
    while node.WhichOneof("target") == "array_node":
        node = node.array_node.node
    return node


class _Conditions:
    """The conditions of one branch node; `inputs` is None after an error that was collected already."""

    def __init__(self, node_id: str, inputs: Types | None, comparison: Comparison) -> None:
        self._node_id = node_id
        self._inputs = inputs
        self._comparison = comparison

    def check(self, expression: BooleanExpression, errors: Errors) -> None:
        kind = expression.WhichOneof("expr")
        if kind == "conjunction":
            for side in ("left_expression", "right_expression"):
                if expression.conjunction.HasField(side):
                    self.check(getattr(expression.conjunction, side), errors)
                else:
                    _no_condition(self._node_id, errors)
        elif kind is None:
            errors.value_required(self._node_id, "Expr")
        else:
            comparison = expression.comparison
            right = comparison.right_value if comparison.HasField("right_value") else None
            left = comparison.left_value if comparison.HasField("left_value") else None
            self._compare(right, left, errors)

    def _compare(self, right: Operand | None, left: Operand | None, errors: Errors) -> None:
        right_type = self._type("RightValue", right, errors)
        left_type = self._type("LeftValue", left, errors)
        if right is None or left is None or right_type is None or left_type is None:
            return
        self._comparison.spend()
        self._comparison.spend_size(right_type, left_type)
        if right_type == left_type:
            return
        # A scalar, such as None, may be of one of the variants of a variable's type.
        if "scalar" in {right.WhichOneof("val"), left.WhichOneof("val")} and (
            self._comparison.castable(right_type, left_type) or self._comparison.castable(left_type, right_type)
        ):
            return
        errors.mismatch(self._node_id, "RightValue", right_type, left_type)

    def _type(self, side: str, operand: Operand | None, errors: Errors) -> LiteralType | None:
        kind = operand.WhichOneof("val") if operand is not None else None
        if operand is None:
            errors.value_required(self._node_id, side)
        elif kind == "primitive":
            return primitive_type(operand.primitive)
        elif kind == "scalar":
            literal_type = scalar_type(operand.scalar)
            if literal_type is None:
                errors.value_required(self._node_id, f"{side}.Val")
            return literal_type
        elif not operand.var:
            errors.value_required(self._node_id, f"{side}.Val")
        elif self._inputs is not None:
            if operand.var in self._inputs:
                return self._inputs[operand.var]
            errors.no_variable(self._node_id, self._node_id, operand.var)
        return None


def _no_condition(node_id: str, errors: Errors) -> None:
    errors.add(Code.BRANCH_NODE_HAS_NO_CONDITION, node_id, "One of the branches on the node doesn't have a condition.")
