"""The engine's reactions to responses, with a server that sends them in a given order.

(events.md#path-of-an-event-in-the-client, events.md#reactions-of-the-engine)
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest
from flyteidl.admin.event_pb2 import EventErrorAlreadyInTerminalState, EventErrorIncompatibleCluster, EventFailureReason
from google.rpc.status_pb2 import Status

from bench import rounds
from bench.entities import ProjectDomain, Shape
from bench.http2 import Channel
from bench.rounds import CALL_ATTEMPTS, MAX_FAILED_ROUNDS, Played, Rounds, Tally
from bench.sequences import play

Code = grpc.StatusCode
PLAYED = play(ProjectDomain("p", "d"), Shape.SINGLE)
PATH = "/flyteidl.service.AdminService/CreateNodeEvent"
TERMINAL = EventFailureReason(already_in_terminal_state=EventErrorAlreadyInTerminalState(current_phase="SUCCEEDED"))
CLUSTER = EventFailureReason(incompatible_cluster=EventErrorIncompatibleCluster(cluster="c"))


class Script(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Returns the next of `codes` to each call, then always OK; a FAILED_PRECONDITION has the detail `reason`."""

    def __init__(self, codes: Sequence[Code], reason: EventFailureReason | None) -> None:
        self.codes = list(codes)
        self.reason = reason

    def service(self, _details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        async def respond(_request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            code = self.codes.pop(0) if self.codes else Code.OK
            if code is Code.FAILED_PRECONDITION and self.reason is not None:
                status = Status(code=code.value[0], message="no")
                status.details.add().Pack(self.reason)
                context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            if code is not Code.OK:
                await context.abort(code, "no")
            return b""

        return grpc.unary_unary_rpc_method_handler(respond)


@asynccontextmanager
async def rounds_with(codes: Sequence[Code], reason: EventFailureReason | None = None) -> AsyncIterator[Rounds]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Script(codes, reason),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = Channel("127.0.0.1", port, 1)
    try:
        yield Rounds(channel, Tally())
    finally:
        channel.close()
        await server.stop(None)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_ROUND_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(rounds, "_CALL_PAUSE_SECONDS", 0.001)


ACCEPTED = [
    ([], 0),
    ([Code.UNAVAILABLE], 0),
    ([Code.UNAVAILABLE] * (CALL_ATTEMPTS - 1), 0),
    ([Code.UNAVAILABLE] * CALL_ATTEMPTS, 1),
    ([Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE, Code.ALREADY_EXISTS], 0),
    ([Code.DEADLINE_EXCEEDED, Code.ALREADY_EXISTS], 1),
    ([Code.INTERNAL], 1),
    ([Code.DEADLINE_EXCEEDED] * MAX_FAILED_ROUNDS, MAX_FAILED_ROUNDS),
]


@pytest.mark.parametrize(("codes", "failed"), ACCEPTED)
async def test_event_is_sent_until_it_is_accepted(codes: list[Code], failed: int) -> None:
    played = Played("x", PLAYED)
    async with rounds_with(codes) as sending:
        assert await sending.send(played, PATH, b"")
    assert (played.failed_rounds, played.doubtful) == (failed, False)


@pytest.mark.parametrize("codes", [[Code.DEADLINE_EXCEEDED] * (MAX_FAILED_ROUNDS + 1), [Code.NOT_FOUND]])
async def test_engine_gives_up_after_too_many_rounds_or_at_once_on_not_found(codes: list[Code]) -> None:
    played = Played("x", PLAYED)
    async with rounds_with(codes) as sending:
        assert not await sending.send(played, PATH, b"")
    assert played.doubtful
    assert played.failed_rounds == len(codes)


@pytest.mark.parametrize(
    ("reason", "ends", "failed"), [(TERMINAL, True, 0), (TERMINAL, False, 1), (CLUSTER, True, 1), (None, True, 1)]
)
async def test_refusal_is_success_only_for_the_end_of_an_entity_that_has_ended(
    reason: EventFailureReason | None, ends: bool, failed: int
) -> None:
    played = Played("x", PLAYED)
    async with rounds_with([Code.FAILED_PRECONDITION], reason) as sending:
        assert await sending.send(played, PATH, b"", ends=ends)
    assert played.failed_rounds == failed


async def test_already_exists_of_a_first_call_is_counted_as_an_error() -> None:
    played, tally = Played("x", PLAYED), Tally()
    async with rounds_with([Code.ALREADY_EXISTS]) as sending:
        sending._tally = tally
        assert await sending.send(played, PATH, b"")
    assert tally.errors == {(PATH, 6, "no"): 1}
    assert tally.responses == {(PATH, 6): 1}


def test_last_event_of_every_entity_is_marked() -> None:
    ending = [step.entity for step in PLAYED.steps if step.ends]
    assert sorted(ending) == sorted({step.entity for step in PLAYED.steps if step.entity.node})
