"""Errors for events that are refused; the engine reacts to code and details (events.md#status-and-error-kind)."""

from flyteidl.admin.event_pb2 import (
    EventErrorAlreadyInTerminalState,
    EventErrorIncompatibleCluster,
    EventFailureReason,
)
from google.protobuf.message import Message

from services.kit.errors import FailedPrecondition, ResourceExhausted
from services.kit.protobuf.size_limit import MOST_ENTITY_BYTES

# Engines without a configured cluster id report under these and are never checked (events.md#producer-check).
UNNAMED_PRODUCERS = frozenset(("", "propeller"))


def already_over(message: str, phase: str) -> FailedPrecondition:
    """Return the error for a terminal state; `phase` is the stored one for workflows, else the event's."""
    return FailedPrecondition(
        message, EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase=phase))
    )


def check_growth(what: str, size: int, *stored: Message) -> None:
    """Raise ResourceExhausted if messages grow from `stored` to `size` bytes and are larger than clients can receive.

    Each event reads and writes a closure as a whole, and the others of the lane wait meanwhile. By its text the engine
    recognizes that a retry is useless (events.md#status-and-error-kind).
    """
    if size > MOST_ENTITY_BYTES and size > sum(message.ByteSize() for message in stored):
        raise ResourceExhausted(f"The {what} becomes a message larger than max ({size} vs. {MOST_ENTITY_BYTES})")


def check_producer(producer: str, cluster: str) -> None:
    """Raise FailedPrecondition if `producer` is named and is not the `cluster` of the execution.

    The detail names the event's producer, not the expected cluster, as in flyteadmin (events.md#producer-check).
    """
    if producer not in UNNAMED_PRODUCERS and producer != cluster:
        raise FailedPrecondition(
            f"Cluster/producer from event [{producer}] does not match existing workflow execution cluster: [{cluster}]",
            EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster(cluster=producer)),
        )
