"""Operation spans, and arithmetic of times (executions.md#span-forms)."""

from flyteidl.core.metrics_pb2 import Span
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.protobuf.readable import NANOS_PER_SECOND


def operation(name: str, start: Timestamp, end: Timestamp) -> Span:
    """Return the span of an operation."""
    return Span(operation_id=name, start_time=start, end_time=end)


def operation_if_ordered(name: str, start: Timestamp, end: Timestamp) -> list[Span]:
    """Return the span of an operation, unless it would end before it starts."""
    return [operation(name, start, end)] if nanoseconds(end) >= nanoseconds(start) else []


def nanoseconds(moment: Timestamp | Duration) -> int:
    """Return a time or a duration in nanoseconds."""
    return moment.seconds * NANOS_PER_SECOND + moment.nanos


def after(start: Timestamp, length: Duration) -> Timestamp:
    """Return the time `length` after `start`."""
    seconds, nanos = divmod(nanoseconds(start) + nanoseconds(length), NANOS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)
