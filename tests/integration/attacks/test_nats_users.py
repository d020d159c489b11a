"""What NATS permits to another user of the machine and to a compromised service, on the sandbox's own server."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import nats
import pytest
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.admin.project_pb2 import Project, ProjectGetRequest
from flyteidl.core.identifier_pb2 import Identifier
from google.protobuf.empty_pb2 import Empty
from nats.aio.client import Client
from nats.errors import Error as NatsError

from deploy.nats_users import USERS, authorization
from deploy.sandbox.layout import Layout
from services import contracts
from services.contracts import event_batches, executions, projects, registry
from services.events.consumers.refusals import DURABLE as REFUSALS
from services.events.ingest.streams import FORMER_VERDICTS_STREAM, declare_streams, delete_former_log_streams
from services.executions.engine import dispatcher as engine_inputs
from services.kit.errors import NotFound, Unavailable
from services.kit.messaging.bus import Bus
from services.kit.messaging.messages import Announcement, ServiceRequest
from services.kit.messaging.outbox import announcements_of
from services.kit.messaging.streams import Delivery
from tests.integration.stack import launched
from tests.support.parts import free_port, running_nats
from tests.support.sandbox import Sandbox
from tests.support.subscriptions import until_subscribed
from tests.support.waiting import until

CONTRACTS = [import_module(f"services.contracts.{module.name}") for module in iter_modules(contracts.__path__)]
REQUESTS = [value for module in CONTRACTS for value in vars(module).values() if isinstance(value, ServiceRequest)]
ANNOUNCEMENTS = [value for module in CONTRACTS for value in vars(module).values() if isinstance(value, Announcement)]
STREAMS = [
    event_batches.BATCHES_STREAM.name,
    FORMER_VERDICTS_STREAM,
    *(announcements_of(name).name for name in ("registry", "executions", "projects")),
]
REFUSED_SECONDS = 5
VERBS = ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.MSG.DELETE", "STREAM.MSG.GET", "CONSUMER.CREATE")


def address_of(sandbox: Sandbox, user: str) -> str:
    """Return the NATS URL of a user in the sandbox, with its password."""
    password = Layout(sandbox.folder).secrets().nats_passwords[user]
    return f"nats://{user}:{password}@127.0.0.1:{sandbox.ports['nats']}"


class Intruder:
    """An intruder with the credentials of one service and a client of its own."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.errors: list[str] = []

    async def note(self, error: Exception) -> None:
        self.errors.append(str(error))

    @asynccontextmanager
    async def inside(self, url: str) -> AsyncIterator[Client]:
        client = await nats.connect(url, error_cb=self.note, inbox_prefix=f"_INBOX.{self.user}", allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()

    def denied(self, verb: str, subject: str) -> bool:
        """Return whether the server refused this."""
        wanted = f'permissions violation for {verb} to "{subject}"'.lower()
        return any(wanted in error.lower() for error in self.errors)


async def check_refused(url: str) -> None:
    client = Client()
    with pytest.raises(NatsError, match="Authorization Violation"):
        await client.connect(url, allow_reconnect=False, error_cb=Intruder("").note)
    await client.close()


def others_subjects(user: str) -> Iterator[str]:
    """Yield subjects that a user must not subscribe to."""
    yield from (">", "ask.>", "flyte.>", "_INBOX.>", "$JS.>", "$SYS.>", "*.>", "flyte.events.batch.*")
    for other in USERS.keys() - {user}:
        yield from (f"_INBOX.{other}.>", f"ask.{other}.*", f"flyte.{other}.>")
    if user != "events":
        yield event_batches.verdict_subject_of("*")


def forbidden_subjects(user: str) -> Iterator[str]:
    """Yield subjects that a user must not publish to."""
    permissions = USERS[user]
    yield from (request.subject for request in REQUESTS if request.subject not in permissions.requests)
    yield from (announcement.subject for announcement in ANNOUNCEMENTS if announcement.owner != user)
    yield from (f"_INBOX.{other}.abc.def" for other in USERS if other != user)
    if user != "executions":
        yield event_batches.verdict_subject_of("abc")
    if user != "events":
        yield event_batches.subject_of(0)
    for stream, verb in itertools.product(STREAMS, VERBS):
        subject = f"$JS.API.{verb}.{stream}"
        own = {f"$JS.API.STREAM.UPDATE.{name}" for name in permissions.streams}
        own |= {f"$JS.API.STREAM.DELETE.{name}" for name in (*permissions.replaces, *permissions.deletes)}
        if subject not in own:
            yield subject
    yield from ("$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.LIST", "$JS.API.INFO", "$JS.API.ACCOUNT.PURGE.x")
    yield from ("$JS.API.CONSUMER.DELETE.EVENT_BATCHES.executions-event-lane-0", "$SYS.REQ.SERVER.PING")


@pytest.mark.parametrize("credentials", ["", "registry@", "registry:wrong@", "sys:sys@", "admin:admin@"])
async def test_connection_without_the_password_of_a_user_is_refused(attacked: Sandbox, credentials: str) -> None:
    host = address_of(attacked, "registry").rpartition("@")[2]
    await check_refused(f"nats://{credentials}{host}")


async def test_password_of_one_user_is_refused_for_another(attacked: Sandbox) -> None:
    passwords = Layout(attacked.folder).secrets().nats_passwords
    assert len(set(passwords.values())) == len(USERS)
    host = address_of(attacked, "registry").rpartition("@")[2]
    await check_refused(f"nats://events:{passwords['registry']}@{host}")


@pytest.mark.parametrize("user", USERS)
async def test_user_subscribes_and_publishes_to_its_own_subjects_only(attacked: Sandbox, user: str) -> None:
    intruder = Intruder(user)
    async with intruder.inside(address_of(attacked, user)) as client:
        for subject in others_subjects(user):
            await client.subscribe(subject)
            await client.subscribe(subject, queue="registry")
        for subject in forbidden_subjects(user):
            await client.publish(subject, b"{}")
        await client.flush()
        tries = 2 * len(list(others_subjects(user))) + len(list(forbidden_subjects(user)))
        with contextlib.suppress(TimeoutError):  # the assertion below names what was not refused
            await until(lambda: len(intruder.errors) >= tries, REFUSED_SECONDS)
        received = [subject for subject in others_subjects(user) if not intruder.denied("subscription", subject)]
        sent = [subject for subject in forbidden_subjects(user) if not intruder.denied("publish", subject)]
        assert (received, sent) == ([], []), intruder.errors


async def test_response_is_accepted_once_and_only_from_the_service_requested(attacked: Sandbox) -> None:
    intruder = Intruder("projects")
    bus = await Bus.connect(address_of(attacked, "registry"), "test-nats-users")
    try:
        with pytest.raises(NotFound):
            await bus.request(projects.GET_PROJECT, ProjectGetRequest(id="none-of-this-name"))
        with pytest.raises(Unavailable):  # the registry may not send this request
            await bus.request(executions.GET_DEFAULT_CONFIG, Empty())
    finally:
        await bus.close()
    async with intruder.inside(address_of(attacked, "projects")) as client:
        await client.publish(f"_INBOX.registry.{'x' * 22}.1", Project(id="forged").SerializeToString())
        await until(lambda: len(intruder.errors) == 1)


async def test_service_sends_no_response_to_a_subject_that_the_caller_may_not_use(attacked: Sandbox) -> None:
    stream = announcements_of("registry").name
    async with (
        Intruder("registry").inside(address_of(attacked, "registry")) as owner,
        Intruder("projects").inside(address_of(attacked, "projects")) as client,
    ):
        before = await owner.jetstream().stream_info(stream)
        for elsewhere in (registry.TASK_REGISTERED.subject, f"$JS.API.STREAM.DELETE.{stream}", "_INBOX.lane", ""):
            await client.publish(executions.GET_DEFAULT_CONFIG.subject, b"", reply=elsewhere)
        await client.request(executions.GET_DEFAULT_CONFIG.subject, b"")
        after = await owner.jetstream().stream_info(stream)
    assert (after.created, after.state.messages) == (before.created, before.state.messages)


async def test_whole_stack_works_without_a_refusal_of_the_server(attacked: Sandbox, plan: Identifier) -> None:
    log = attacked.folder / "logs" / "nats.log"
    before = log.read_text().count("Violation")
    async with attacked.channel() as channel:
        from flyteidl.service.admin_pb2_grpc import AdminServiceStub

        admin = AdminServiceStub(channel)
        await launched.launch(admin, plan)
        await admin.GetLaunchPlan(ObjectGetRequest(id=plan))
    assert log.read_text().count("Violation") == before


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run a server for one test; yield its URLs by user."""
    passwords = {user: f"{user}-password" for user in USERS}
    with running_nats(tmp_path, free_port(), authorization(passwords)) as url:
        host = url.removeprefix("nats://")
        yield {user: f"nats://{user}:{password}@{host}" for user, password in passwords.items()}


@pytest.fixture
async def buses(guarded: dict[str, str]) -> AsyncIterator[dict[str, Bus]]:
    """Yield a connection of each service."""
    opened = {user: await Bus.connect(url, user) for user, url in guarded.items()}
    yield opened
    for bus in opened.values():
        await bus.close()


async def test_each_user_may_do_all_that_its_service_does(buses: dict[str, Bus]) -> None:
    """Also what a sandbox does not use, such as the engine's consumer and what a former release has created."""
    seen: list[str] = []

    async def take(delivery: Delivery) -> None:
        seen.append(delivery.subject)

    # In the hardest order: readers of a stream come before its owner.
    await buses["events"].declare_stream(announcements_of("executions"), own=False)
    await buses["events"].consume(announcements_of("executions"), executions.EVENT_REFUSED.subject, REFUSALS, take)
    await buses["executions"].declare_stream(event_batches.BATCHES_STREAM, own=False)
    lane = event_batches.subject_of(0)
    await buses["executions"].consume(event_batches.BATCHES_STREAM, lane, event_batches.durable_of(0), take)
    for owner in ("registry", "executions", "projects"):
        await buses[owner].declare_stream(announcements_of(owner))
        for announcement in (each for each in ANNOUNCEMENTS if each.owner == owner):
            await buses[owner].append(announcement.subject, b"announced", announcement.subject)
    engine = await buses["executions"].pull_consumer(
        announcements_of("executions"), engine_inputs.SUBJECTS, engine_inputs.DURABLE
    )
    deliveries = await engine.fetch(10)
    assert len(deliveries) == 2
    await engine.acknowledge(deliveries)

    await buses["events"].replace_work_queue_stream(event_batches.BATCHES_STREAM)
    await declare_streams(buses["events"])
    await delete_former_log_streams(buses["events"])
    await buses["events"].append(lane, b"batch", "batch")
    await buses["events"].oldest_message_time(event_batches.BATCHES_STREAM)  # none, when the batch is taken already
    await until(lambda: sorted(seen) == sorted([lane, executions.EVENT_REFUSED.subject]))
    received: list[bytes] = []

    async def receive(data: bytes) -> None:
        received.append(data)

    await buses["events"].subscribe(event_batches.verdict_subject_of("*"), receive)
    await until_subscribed(buses["events"])
    await buses["executions"].send(event_batches.verdict_subject_of("abc"), b"verdicts")
    await until(lambda: received == [b"verdicts"])
    for bus in buses.values():
        await bus.create_missing_streams()
        assert not bus._client.last_error


async def test_stream_of_an_earlier_release_is_replaced_by_its_owner(
    buses: dict[str, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nats.js.api import RetentionPolicy, StreamConfig

    former = StreamConfig(
        name=event_batches.BATCHES_STREAM.name,
        subjects=[*event_batches.BATCHES_STREAM.subjects],
        retention=RetentionPolicy.WORK_QUEUE,
    )
    await buses["events"]._jetstream.add_stream(former)
    await buses["events"].replace_work_queue_stream(event_batches.BATCHES_STREAM)
    info = await buses["events"]._jetstream.stream_info(event_batches.BATCHES_STREAM.name)
    assert info.config.retention == RetentionPolicy.INTEREST
    monkeypatch.undo()


async def test_service_requests_of_every_contract_reach_their_owner_only(buses: dict[str, Bus]) -> None:
    for contract in REQUESTS:
        owner = contract.subject.split(".")[1]

        async def respond(_request: object, contract: ServiceRequest = contract) -> bytes:  # type: ignore[type-arg]
            reply: bytes = contract.reply().SerializeToString()
            return reply

        await buses[owner].serve(contract, respond)
        for caller in (user for user, permissions in USERS.items() if contract.subject in permissions.requests):
            assert await buses[caller].request(contract, contract.request()) == contract.reply()
    allowed = {subject for permissions in USERS.values() for subject in permissions.requests}
    assert allowed <= {contract.subject for contract in REQUESTS}
    assert LaunchPlan() == await buses["executions"].request(registry.GET_LAUNCH_PLAN, ObjectGetRequest())
