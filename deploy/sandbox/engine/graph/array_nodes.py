"""Array nodes: a task or a launch plan for each element of lists, and one task execution (engine.md#map-tasks)."""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from flyteidl.core.execution_pb2 import ExecutionError, NodeExecution, TaskExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.literals_pb2 import Literal, LiteralCollection, LiteralMap, Scalar, Void
from flyteidl.core.workflow_pb2 import ArrayNode as ArraySpec
from flyteidl.event.event_pb2 import ExternalResourceInfo

from deploy.sandbox.engine.graph.array_items import ChildItem, Item, TaskItem
from deploy.sandbox.engine.graph.events import array_event
from deploy.sandbox.engine.graph.interface import ArrayItem
from deploy.sandbox.engine.graph.library import task_policy
from deploy.sandbox.engine.graph.node import Node
from deploy.sandbox.engine.graph.runtime import Timer
from services.contracts.identifiers import key_of

# Changes of items are reported in rounds, so a thousand short tasks are not thousands of events.
ROUND: Final = timedelta(seconds=0.25)
# Errors of items that the error of the node quotes.
_MOST_QUOTED: Final = 10
# Decimal digits that a ratio of thousands of items still has exactly.
_RATIO_DIGITS: Final = 3
# Stands for all ratios above 1, also infinity.
_MORE_THAN_ALL: Final = 2.0
# The default of flytepropeller's k8s-array plugin (maxArrayJobSize).
MOST_ITEMS: Final = 5_000
# Items that are started for one input; 20 take some milliseconds.
_SLICE: Final = 20
_INSTANT: Final = timedelta(microseconds=1)
_NONE: Final = Literal(scalar=Scalar(none_type=Void()))


class ArrayNode:
    """An array node: QUEUED, the task execution with an external resource for each item, RUNNING, and its end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._spec = node.spec.array_node
        self._task_id = Identifier()
        self._interface = TypedInterface()
        self._items: list[Item] = []
        self._waiting: Iterator[Item] = iter(())
        self._running = 0
        self._ended = 0
        self._failed: list[Item] = []
        self._changes: dict[tuple[int, int], ExternalResourceInfo] = {}
        self._version = 0
        self._round: Timer | None = None
        self._slice: Timer | None = None
        node.flags["is_array"] = True

    def begin(self) -> None:
        """Make the items and start as many as may run."""
        node = self._node
        node.queue()
        size = self._size()
        if isinstance(size, ExecutionError):
            node.fail(size)
            return
        error = self._make_items(size)
        if error is not None:
            node.fail(error)
            return
        if size:
            undefined = [item.resource(TaskExecution.UNDEFINED) for item in self._items]
            self._emit(TaskExecution.QUEUED, 0, undefined, input_uri=node.input_uri)
        node.emit(NodeExecution.RUNNING)
        node.runtime.slots.take(node.node_id)
        self._waiting = iter(self._items)
        self._start_items()
        self._check()

    def _size(self) -> int | ExecutionError:
        """Return how many items there are: the length of all inputs that are lists, without bound ones."""
        sizes = [len(literal.collection.literals) for _, literal in self._lists()]
        if not sizes:
            return _array_error("no input array provided")
        for size in sizes:
            if size != sizes[0]:
                return _array_error(f"input arrays have different lengths: expecting '{sizes[0]}' found '{size}'")
        if sizes[0] > MOST_ITEMS:
            return _array_error(f"array size > max allowed. requested [{sizes[0]}]. allowed [{MOST_ITEMS}]")
        return sizes[0]

    def _lists(self) -> list[tuple[str, Literal]]:
        bound = set(self._spec.bound_inputs)
        literals = sorted(self._node.inputs.literals.items())
        return [(name, each) for name, each in literals if name not in bound and each.HasField("collection")]

    def _make_items(self, size: int) -> ExecutionError | None:
        node, inner = self._node, self._spec.node
        lists = dict(self._lists())
        constants = {name: each for name, each in node.inputs.literals.items() if name not in lists}

        def inputs_of(index: int) -> LiteralMap:
            own = {name: each.collection.literals[index] for name, each in lists.items()}
            return LiteralMap(literals={**constants, **own})

        if inner.WhichOneof("target") == "task_node":
            template = node.around.library.tasks.get(key_of(inner.task_node.reference_id))
            if template is None:
                return _bad_specification(f"failed to find task [{inner.task_node.reference_id.name}]")
            policy = task_policy(inner, template, node.runtime.run, node.around.interruptible)
            self._task_id, self._interface = template.id, template.interface
            single = self._spec.data_mode == ArraySpec.SINGLE_INPUT_FILE
            self._items = [
                TaskItem(node, self, ArrayItem(index, size), partial(inputs_of, index), policy, single_input=single)
                for index in range(size)
            ]
            return None
        if inner.workflow_node.HasField("launchplan_ref"):
            self._task_id = _task_for(inner.workflow_node.launchplan_ref)
            self._items = [
                ChildItem(node, self, index, inner.workflow_node.launchplan_ref, partial(inputs_of, index))
                for index in range(size)
            ]
            return None
        return _bad_specification("an array node repeats tasks and launch plans only")

    # ---- Items

    def _start_items(self) -> None:
        """Start items in their order, up to the parallelism of the node; 0 and none are unlimited.

        A slice at a time: the engine handles the inputs of its other executions between two.
        """
        node, most = self._node, self._spec.parallelism
        for _ in range(_SLICE):
            if node.is_over or (most and self._running >= most):
                return
            item = next(self._waiting, None)
            if item is None:
                return
            self._running += 1
            item.begin()
        if self._slice is None:
            self._slice = node.runtime.call_at(node.runtime.at + _INSTANT, self._next_slice)

    def _next_slice(self) -> None:
        self._slice = None
        if not self._node.is_over:
            self._start_items()

    def changed(self, resource: ExternalResourceInfo) -> None:
        """Report an item in the next round."""
        self._changes[resource.index, resource.retry_attempt] = resource
        if self._round is None:
            self._round = self._node.runtime.call_at(self._node.runtime.at + ROUND, self._report_round)

    def item_ended(self, item: Item) -> None:
        """Go on after the end of an item."""
        self._running -= 1
        self._ended += 1
        if item.error is not None:
            self._failed.append(item)
        self._node.runtime.later(self._go_on)

    def _go_on(self) -> None:
        if not self._node.is_over:
            self._start_items()
            self._check()

    def _check(self) -> None:
        """End the node when enough items failed, or all have ended."""
        node, size = self._node, len(self._items)
        if node.is_over:
            return
        too_many = size - len(self._failed) < self._needed(size)
        if self._ended == size and not too_many:
            self._succeed()
        elif too_many and (self._ended == size or not self._spec.run_all_sub_nodes):
            self._fail()

    def _needed(self, size: int) -> int:
        option = self._spec.WhichOneof("success_criteria")
        if option == "min_successes":
            return self._spec.min_successes
        if option == "min_success_ratio":
            return _share(self._spec.min_success_ratio, size)
        return size

    # ---- Ends

    def _succeed(self) -> None:
        outputs = LiteralMap()
        names = set(self._interface.outputs.variables)
        for item in self._items:
            names |= set(item.outputs.literals)
        if not self._items and not names:
            # The outputs of a launch plan are unknown without an item: each is an empty list.
            self._node.default_output = Literal(collection=LiteralCollection())
        for name in sorted(names):
            values = [item.outputs.literals.get(name, _NONE) for item in self._items]
            outputs.literals[name].CopyFrom(Literal(collection=LiteralCollection(literals=values)))
        uri = self._node.output_uri()
        self._node.runtime.store(uri, outputs)
        self._end_task(TaskExecution.SUCCEEDED, output_uri=uri)
        self._node.succeed(outputs, uri)

    def _fail(self) -> None:
        for item in self._items:
            item.abort("ArrayNodeFailing")
        first = self._failed[0].error if self._failed else None
        if first is None:
            first = _too_few(self._needed(len(self._items)), len(self._items))
        quoted = "".join(f"[{item.index}]: {(item.error or first).message}\n" for item in self._failed[:_MOST_QUOTED])
        more = len(self._failed) - _MOST_QUOTED
        message = (quoted or first.message) + (f"... and {more} more\n" if more > 0 else "")
        error = ExecutionError(code=first.code, message=message, kind=first.kind)
        self._end_task(TaskExecution.FAILED, error=error)
        self._node.fail(error)

    def abort(self, reason: str) -> None:
        """End all items."""
        for item in self._items:
            item.abort(reason)
        if self._items:
            self._end_task(TaskExecution.ABORTED, error=ExecutionError(code="Task Aborted", message=reason))

    # ---- Events

    def _report_round(self) -> None:
        self._round = None
        if self._changes and not self._node.is_over:
            self._emit(TaskExecution.RUNNING, self._version, list(self._changes.values()))
            self._version += 1
            self._changes.clear()

    def _end_task(self, phase: TaskExecution.Phase, **fields: Any) -> None:
        if self._round is not None:
            self._round.cancel()
            self._report_round()
        if self._items:
            self._emit(phase, 0, [item.last_resource() for item in self._items], **fields)

    def _emit(
        self, phase: TaskExecution.Phase, version: int, resources: Sequence[ExternalResourceInfo], **fields: Any
    ) -> None:
        node = self._node
        event = array_event(
            node.identifier, self._task_id, phase, list(resources), version=version, at=node.runtime.at, **fields
        )
        node.runtime.emit(event)


def _share(ratio: float, size: int) -> int:
    """Return how many of `size` items a ratio is; one above 1 is more than there are; NaN is none."""
    if math.isnan(ratio):
        return 0
    ratio = max(0.0, min(ratio, _MORE_THAN_ALL))
    # The ratio is a 32-bit float: 0.1 of ten items is not more than one.
    return math.ceil(round(ratio * size, _RATIO_DIGITS))


def _task_for(launch_plan: Identifier) -> Identifier:
    """Return a task id for the task execution of an array of launch plans: an event must have one."""
    identifier = Identifier()
    identifier.CopyFrom(launch_plan)
    identifier.resource_type = ResourceType.TASK
    return identifier


def _array_error(message: str) -> ExecutionError:
    return ExecutionError(code="InvalidArrayLength", message=message, kind=ExecutionError.USER)


def _too_few(needed: int, size: int) -> ExecutionError:
    message = f"more successes are required than there are items: [{needed}] of [{size}]"
    return ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.USER)


def _bad_specification(message: str) -> ExecutionError:
    return ExecutionError(code="BadSpecificationError", message=message, kind=ExecutionError.SYSTEM)
