"""Calls of the engine: events are retried, and responses interpreted, as by flytepropeller.

Rules: events.md#how-the-engine-reads-responses.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from flyteidl.admin.event_pb2 import EventFailureReason
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

# What the client's interceptor retries, how often, and its first pause (events.md#path-of-an-event-in-the-client).
RETRIED = frozenset((grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE))
CALL_ATTEMPTS = 5
CALL_BACKOFF_SECONDS = 0.1
# After one more failed round the workflow is aborted (events.md#reactions-of-the-engine).
MAX_FAILED_ROUNDS = 10
# Much shorter than in flytepropeller, which waits up to a minute between rounds.
ROUND_BACKOFF_SECONDS = 0.5

# For events of these phases EventAlreadyInTerminalState is success; RECOVERED is no member
# (events.md#reactions-of-the-engine).
_TERMINAL = frozenset(("ABORTED", "FAILED", "SKIPPED", "SUCCEEDED", "TIMED_OUT"))


class WorkflowAborted(Exception):  # the engine's word
    """The engine gives up the workflow."""


@dataclass
class Calls:
    """Counts of accepted events and failed rounds."""

    sent: Counter[str] = field(default_factory=Counter)
    """Events that were accepted, by request."""
    failed_rounds: Counter[str] = field(default_factory=Counter)
    """Failed rounds by name of the execution."""

    async def send(
        self, call: Callable[[Any], Awaitable[Message]], request: Message, execution: str, phase: str
    ) -> None:
        """Send one event until it is accepted, as the engine's rounds do; raise WorkflowAborted."""
        while True:
            try:
                await _call(call, request)
            except grpc.aio.AioRpcError as error:
                if not self._accepted(error, execution, phase):
                    self.failed_rounds[execution] += 1
                    if self.failed_rounds[execution] > MAX_FAILED_ROUNDS:
                        raise WorkflowAborted(f"Workflow abort failed: {error.details()}") from error
                    await asyncio.sleep(ROUND_BACKOFF_SECONDS)
                    continue
            self.sent[type(request).__name__] += 1
            return

    def _accepted(self, error: grpc.aio.AioRpcError, execution: str, phase: str) -> bool:
        """Return whether `error` counts as success; raise WorkflowAborted when the engine stops at once."""
        if error.code() is grpc.StatusCode.ALREADY_EXISTS:
            return True
        if _reason(error) == "already_in_terminal_state":
            return phase in _TERMINAL
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise WorkflowAborted(f"ExecutionNotFound: {execution}") from error
        return False


async def _call(call: Callable[[Any], Awaitable[Message]], request: Message) -> None:
    for attempt in range(1, CALL_ATTEMPTS + 1):
        try:
            await call(request)
        except grpc.aio.AioRpcError as error:
            if attempt == CALL_ATTEMPTS or error.code() not in RETRIED:
                raise
            await asyncio.sleep(CALL_BACKOFF_SECONDS * 2 ** (attempt - 1))
        else:
            return


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Return the kind of the EventFailureReason in the details, empty for none."""
    metadata: Any = error.trailing_metadata()
    packed = dict(metadata or ()).get("grpc-status-details-bin")
    reason = EventFailureReason()
    if packed and any(detail.Unpack(reason) for detail in Status.FromString(packed).details):
        return reason.WhichOneof("reason") or ""
    return ""
