"""Errors for events that are refused; the engine reacts to code and details (events.md#status-and-error-kind)."""

import sys
from typing import Any

from flyteidl.admin.event_pb2 import (
    EventErrorAlreadyInTerminalState,
    EventErrorIncompatibleCluster,
    EventFailureReason,
)
from google.protobuf.message import Message

from services.kit.errors import FailedPrecondition, ResourceExhausted
from services.kit.protobuf.parts import count_parts
from services.kit.protobuf.size_limit import MOST_ENTITY_BYTES

# Of a closure, and of a chunk of external resources. Dozens of logs and hundreds of keys of custom_info are usual. With
# this many an event is folded in some 10 ms.
MOST_STORED_PARTS = 16 * 1024
# A part has two bytes at least.
_MOST_UNCOUNTED_BYTES = 2 * MOST_STORED_PARTS

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


def check_parts_growth(what: str, size: int, message: Message, stored: Message) -> None:
    """Raise ResourceExhausted if `message`, of `size` bytes, has more parts than `stored` and than may be stored.

    The fold of every later event copies them one by one.
    """
    if size > _MOST_UNCOUNTED_BYTES and _count_parts(message, MOST_STORED_PARTS) > MOST_STORED_PARTS:
        before = _count_parts(stored, sys.maxsize)
        if _count_parts(message, before) > before:
            most = f"more than {MOST_STORED_PARTS} parts"
            raise ResourceExhausted(f"The {what} becomes a message larger than max ({most})")


def _count_parts(message: Message, most: int) -> int:
    kind: Any = message.DESCRIPTOR
    return count_parts(kind, message.SerializeToString(), most)


def check_producer(producer: str, cluster: str) -> None:
    """Raise FailedPrecondition if `producer` is named and is not the `cluster` of the execution.

    The detail names the event's producer, not the expected cluster, as in flyteadmin (events.md#producer-check).
    """
    if producer not in UNNAMED_PRODUCERS and producer != cluster:
        raise FailedPrecondition(
            f"Cluster/producer from event [{producer}] does not match existing workflow execution cluster: [{cluster}]",
            EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster(cluster=producer)),
        )
