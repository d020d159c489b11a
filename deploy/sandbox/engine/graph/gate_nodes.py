"""Gate nodes: wait for an approval, for a signal, or for some time."""

from typing import Final

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution
from flyteidl.core.identifier_pb2 import SignalIdentifier
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from flyteidl.core.types_pb2 import LiteralType, SimpleType

from deploy.sandbox.engine.graph.durations import bounded
from deploy.sandbox.engine.graph.inputs import SignalArrived
from deploy.sandbox.engine.graph.interface import WaitForSignal
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.runtime import Timer

_REJECTED: Final = "received a reject signal to disapprove the node input values"


class GateNode:
    """A gate node: QUEUED, RUNNING, and its end when the condition is met."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gate = node.spec.gate_node
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Begin to wait."""
        node = self._node
        node.queue()
        node.emit(NodeExecution.RUNNING)
        condition = self._gate.WhichOneof("condition")
        if condition == "sleep":
            until = node.runtime.at + bounded(self._gate.sleep.duration)
            self._timer = node.runtime.call_at(until, lambda: node.succeed(LiteralMap()))
        elif condition == "approve":
            self._wait(self._gate.approve.signal_id, LiteralType(simple=SimpleType.BOOLEAN))
        elif condition == "signal":
            self._wait(self._gate.signal.signal_id, self._gate.signal.type)
        else:
            message = "gateNode does not have a supported condition reference"
            node.fail(ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.SYSTEM))

    def _wait(self, signal_id: str, literal_type: LiteralType) -> None:
        node = self._node
        signal = SignalIdentifier(signal_id=signal_id, execution_id=node.runtime.run.execution)
        node.runtime.expect(WaitForSignal(node.node_id, signal, literal_type), node.node_id, self._arrived)

    def _arrived(self, result: SignalArrived) -> None:
        self._node.runtime.forget(WaitForSignal, self._node.node_id)
        if self._gate.WhichOneof("condition") == "signal":
            name = self._gate.signal.output_variable_name
            self._node.succeed_with(LiteralMap(literals={name: result.value}))
        else:
            self._decide(result.value)

    def _decide(self, value: Literal) -> None:
        if value.scalar.primitive.WhichOneof("value") != "boolean":
            message = "received a non-boolean approve signal value"
            self._node.fail(ExecutionError(code="RuntimeExecutionError", message=message))
        elif value.scalar.primitive.boolean:
            self._node.succeed_with(self._node.inputs)
        else:
            error = ExecutionError(code="ReceivedRejectSignal", message=_REJECTED, kind=ExecutionError.USER)
            self._node.fail(error)

    def abort(self, _reason: str) -> None:
        """Stop waiting."""
        self._node.runtime.forget(WaitForSignal, self._node.node_id)
        if self._timer is not None:
            self._timer.cancel()
