"""What the engine is told of an event that is not applied: code and details decide what it does (events.md 1.2)."""

from flyteidl.admin.event_pb2 import (
    EventErrorAlreadyInTerminalState,
    EventErrorIncompatibleCluster,
    EventFailureReason,
)
from google.protobuf.message import Message

from services.kit.errors import FailedPrecondition, ResourceExhausted
from services.kit.protobuf.size_limit import MOST_BYTES

# An engine that was given no name of its own reports under this one and is never checked (events.md 2.2).
UNNAMED_PRODUCERS = frozenset(("", "propeller"))


def already_over(message: str, phase: str) -> FailedPrecondition:
    """Tell that the state is terminal; `phase` is the stored phase for workflows, the event's for nodes and tasks."""
    return FailedPrecondition(
        message, EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase=phase))
    )


def check_growth(what: str, size: int, stored: Message) -> None:
    """Raise ResourceExhausted when an event makes more of what is `stored`, to `size` bytes, than clients receive.

    Each event reads and writes a closure as a whole, and the others of the lane wait meanwhile. The text is one by
    which the engine knows what is too large for good (events.md 1.2).
    """
    if size > MOST_BYTES and size > stored.ByteSize():
        raise ResourceExhausted(f"The {what} becomes a message larger than max ({size} vs. {MOST_BYTES})")


def check_producer(producer: str, cluster: str) -> None:
    """Raise FailedPrecondition when `producer` is named and not the `cluster` that the execution is assigned to.

    The detail names the event's producer, not the cluster expected, as the reference has it (events.md 2.2).
    """
    if producer not in UNNAMED_PRODUCERS and producer != cluster:
        raise FailedPrecondition(
            f"Cluster/producer from event [{producer}] does not match existing workflow execution cluster: [{cluster}]",
            EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster(cluster=producer)),
        )
