"""What the engine is told of an event that is not applied: code and details decide what it does (events.md 1.2)."""

from flyteidl.admin.event_pb2 import (
    EventErrorAlreadyInTerminalState,
    EventErrorIncompatibleCluster,
    EventFailureReason,
)

from services.kit.errors import FailedPrecondition

# An engine that was given no name of its own reports under this one and is never checked (events.md 2.2).
UNNAMED_PRODUCERS = frozenset(("", "propeller"))


def already_over(message: str, phase: str) -> FailedPrecondition:
    """Tell that the state is terminal; `phase` is the stored phase for workflows, the event's for nodes and tasks."""
    return FailedPrecondition(
        message, EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase=phase))
    )


def check_producer(producer: str, cluster: str) -> None:
    """Raise FailedPrecondition when `producer` is named and not the `cluster` that the execution is assigned to.

    The detail names the event's producer, not the cluster expected, as the reference has it (events.md 2.2).
    """
    if producer not in UNNAMED_PRODUCERS and producer != cluster:
        raise FailedPrecondition(
            f"Cluster/producer from event [{producer}] does not match existing workflow execution cluster: [{cluster}]",
            EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster(cluster=producer)),
        )
