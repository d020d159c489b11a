"""Times and durations of events, exact to the nanosecond where protobuf is."""

from flyteidl.admin.execution_pb2 import ExecutionClosure
from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.errors import InvalidArgument
from services.kit.protobuf.readable import FIRST_SECOND, LAST_SECOND, NANOS_PER_SECOND

_NANOS_PER_MICROSECOND = 1_000
_MICROSECONDS_PER_SECOND = 1_000_000


def valid(timestamp: Timestamp) -> bool:
    """Return whether `timestamp` is in the years 1 to 9999 and its nanoseconds are less than a second."""
    return FIRST_SECOND <= timestamp.seconds <= LAST_SECOND and 0 <= timestamp.nanos < NANOS_PER_SECOND


def check_occurred_at(timestamp: Timestamp, *, present: bool) -> None:
    """Raise InvalidArgument for an absent or impossible occurred_at (events.md#workflow-event-checks)."""
    if not present:
        raise InvalidArgument("missing occurred_at")
    if not valid(timestamp):
        raise InvalidArgument("invalid value for occurred_at")


def recorded_at(occurred_at: Timestamp, reported_at: Timestamp) -> Timestamp:
    """Return the time of the report, or of the event if that is absent or zero (events.md#first-node-event)."""
    return reported_at if valid(reported_at) and reported_at.seconds > 0 else occurred_at


def between(start: Timestamp, end: Timestamp) -> Duration:
    """Return `end` - `start`, which may be negative. Both of its parts have the same sign, as protobuf requires."""
    total = nanoseconds(end) - nanoseconds(start)
    sign = -1 if total < 0 else 1
    seconds, nanos = divmod(abs(total), NANOS_PER_SECOND)
    return Duration(seconds=sign * seconds, nanos=sign * nanos)


def default_started_at(closure: TaskExecutionClosure | NodeExecutionClosure | ExecutionClosure) -> None:
    """Set started_at to created_at unless it is set.

    Short work goes from QUEUED to its end between two polls of the engine. In flyteadmin it has no start and no
    duration (differences.md#events).
    """
    if not closure.HasField("started_at") and closure.HasField("created_at"):
        closure.started_at.CopyFrom(closure.created_at)


def nanoseconds(value: Timestamp | Duration) -> int:
    """Return `value` in nanoseconds."""
    return value.seconds * NANOS_PER_SECOND + value.nanos


def microseconds(timestamp: Timestamp) -> int:
    """Return `timestamp` in microseconds, the precision of timestamptz."""
    return timestamp.seconds * _MICROSECONDS_PER_SECOND + timestamp.nanos // _NANOS_PER_MICROSECOND
