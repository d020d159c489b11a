"""The choice of a branch: conditions over the inputs of a branch node (compiler.md#conditions)."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from flyteidl.core.condition_pb2 import BooleanExpression, ComparisonExpression, ConjunctionExpression, Operand
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive
from flyteidl.core.workflow_pb2 import BranchNode, Node

MALFORMED: Final = "MalformedBranchUserError"
CHOSEN_TO_FAIL: Final = "UserProvidedError"

_COMPARISONS: Final[Mapping[int, Callable[[Any, Any], bool]]] = {
    ComparisonExpression.EQ: operator.eq,
    ComparisonExpression.NEQ: operator.ne,
    ComparisonExpression.GT: operator.gt,
    ComparisonExpression.GTE: operator.ge,
    ComparisonExpression.LT: operator.lt,
    ComparisonExpression.LTE: operator.le,
}
_EQUALITY: Final = {ComparisonExpression.EQ, ComparisonExpression.NEQ}


class BranchFailed(Exception):  # same
    """No branch is taken."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.error = ExecutionError(code=code, message=message, kind=ExecutionError.USER)


def chosen(branch: BranchNode, inputs: LiteralMap) -> Node:
    """Return the node of the first case whose condition holds, else the default.

    Raises:
        BranchFailed: The default is an error, or a condition cannot be evaluated.
    """
    for block in (branch.if_else.case, *branch.if_else.other):
        if holds(block.condition, inputs):
            return block.then_node
    if branch.if_else.HasField("else_node"):
        return branch.if_else.else_node
    if branch.if_else.HasField("error"):
        raise BranchFailed(CHOSEN_TO_FAIL, branch.if_else.error.message)
    raise BranchFailed(MALFORMED, "No branch satisfied")


def holds(expression: BooleanExpression, inputs: LiteralMap) -> bool:
    """Return whether a condition holds; both sides of a conjunction are evaluated.

    Raises:
        BranchFailed: It cannot be evaluated.
    """
    kind = expression.WhichOneof("expr")
    if kind == "comparison":
        return _compared(expression.comparison, inputs)
    if kind is None:
        raise BranchFailed(MALFORMED, "No Comparison or Conjunction found in Branch node expression.")
    left = holds(expression.conjunction.left_expression, inputs)
    right = holds(expression.conjunction.right_expression, inputs)
    return left or right if expression.conjunction.operator == ConjunctionExpression.OR else left and right


def _compared(comparison: ComparisonExpression, inputs: LiteralMap) -> bool:
    left, right = _operand(comparison.left_value, inputs), _operand(comparison.right_value, inputs)
    compare = _COMPARISONS.get(comparison.operator)
    if compare is None:
        raise BranchFailed(MALFORMED, "Unsupported operator type in Propeller. System error.")
    if left is None or right is None:
        if comparison.operator not in _EQUALITY:
            raise BranchFailed(MALFORMED, "nil can be compared for equality only")
        return compare(left is None, right is None)
    types = left.WhichOneof("value"), right.WhichOneof("value")
    if types[0] != types[1]:
        raise BranchFailed(
            MALFORMED, f"Comparison between different primitives types. lVal[{types[0]}]:rVal[{types[1]}]"
        )
    if types[0] is None:
        raise BranchFailed(MALFORMED, "Comparator not defined for type: [nil]")
    if types[0] == "boolean" and comparison.operator not in _EQUALITY:
        name = ComparisonExpression.Operator.Name(comparison.operator)
        raise BranchFailed(MALFORMED, f"[{name}] not defined for boolean operands.")
    return compare(_plain(left), _plain(right))


def _operand(operand: Operand, inputs: LiteralMap) -> Primitive | None:
    """Return the primitive of an operand; None for the value None."""
    kind = operand.WhichOneof("val")
    if kind == "primitive":
        return operand.primitive
    if kind == "scalar":
        return _primitive(Literal(scalar=operand.scalar))
    if operand.var not in inputs.literals:
        raise BranchFailed(MALFORMED, f"Failed to find Value for Variable [{operand.var}]")
    return _primitive(inputs.literals[operand.var])


def _primitive(literal: Literal) -> Primitive | None:
    while literal.scalar.HasField("union"):
        literal = literal.scalar.union.value
    if literal.scalar.HasField("primitive"):
        return literal.scalar.primitive
    if literal.scalar.HasField("none_type"):
        return None
    raise BranchFailed(MALFORMED, "Only primitives can be compared.")


def _plain(primitive: Primitive) -> Any:
    kind = primitive.WhichOneof("value")
    value: Any = getattr(primitive, kind) if kind else None
    return (value.seconds, value.nanos) if kind in {"datetime", "duration"} else value
