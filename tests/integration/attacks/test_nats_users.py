"""What somebody on the machine, or one service that was broken into, can do over NATS: on the sandbox's own server."""

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
from services.events.ingest.streams import BATCHES, SAID, make_ready
from services.executions.engine import dispatcher as engine_inputs
from services.executions.events.batches import STREAM
from services.kit.errors import NotFound, Unavailable
from services.kit.messaging.bus import Bus, Delivery
from services.kit.messaging.messages import Announcement, ServiceRequest
from services.kit.messaging.outbox import announcements_of
from tests.integration.stack import launched
from tests.support.parts import free_port, running_nats
from tests.support.sandbox import Sandbox
from tests.support.waiting import until

CONTRACTS = [import_module(f"services.contracts.{found.name}") for found in iter_modules(contracts.__path__)]
QUESTIONS = [one for module in CONTRACTS for one in vars(module).values() if isinstance(one, ServiceRequest)]
FACTS = [one for module in CONTRACTS for one in vars(module).values() if isinstance(one, Announcement)]
STREAMS = [BATCHES.name, SAID.name, *(announcements_of(name).name for name in ("registry", "executions", "projects"))]
REFUSED_SECONDS = 5
VERBS = ("STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.MSG.DELETE", "STREAM.MSG.GET", "CONSUMER.CREATE")


def address_of(sandbox: Sandbox, service: str) -> str:
    """The URL that the sandbox gives to a service, password and all."""
    lines = (sandbox.folder / "env" / f"{service}.env").read_text().splitlines()
    return next(line.partition("=")[2].strip("'") for line in lines if "NATS_URL" in line)


class Intruder:
    """Somebody with the credentials of one service and a client of his own."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.told: list[str] = []

    async def note(self, error: Exception) -> None:
        self.told.append(str(error))

    @asynccontextmanager
    async def inside(self, url: str) -> AsyncIterator[Client]:
        client = await nats.connect(url, error_cb=self.note, inbox_prefix=f"_INBOX.{self.user}", allow_reconnect=False)
        try:
            yield client
        finally:
            await client.close()

    def denied(self, verb: str, subject: str) -> bool:
        """Whether the server said so."""
        wanted = f'permissions violation for {verb} to "{subject}"'.lower()
        return any(wanted in one.lower() for one in self.told)


async def check_refused(url: str) -> None:
    client = Client()
    with pytest.raises(NatsError, match="Authorization Violation"):
        await client.connect(url, allow_reconnect=False, error_cb=Intruder("").note)
    await client.close()


def others_subjects(user: str) -> Iterator[str]:
    """What one user must not hear."""
    yield from (">", "ask.>", "flyte.>", "_INBOX.>", "$JS.>", "$SYS.>", "*.>", "flyte.events.batch.*")
    for other in USERS.keys() - {user}:
        yield from (f"_INBOX.{other}.>", f"ask.{other}.*", f"flyte.{other}.>")
    if user != "events":
        yield event_batches.VERDICTS


def others_words(user: str) -> Iterator[str]:
    """What one user must not say."""
    rights = USERS[user]
    yield from (question.subject for question in QUESTIONS if question.subject not in rights.requests)
    yield from (fact.subject for fact in FACTS if fact.owner != user)
    yield from (f"_INBOX.{other}.abc.def" for other in USERS if other != user)
    if user != "executions":
        yield event_batches.inbox_of("abc")
    if user != "events":
        yield event_batches.subject_of(0)
    for stream, verb in itertools.product(STREAMS, VERBS):
        subject = f"$JS.API.{verb}.{stream}"
        own = {f"$JS.API.STREAM.UPDATE.{name}" for name in rights.streams}
        own |= {f"$JS.API.STREAM.DELETE.{name}" for name in rights.replaces}
        own |= {f"$JS.API.CONSUMER.CREATE.{name}" for name in rights.rereads}
        if subject not in own:
            yield subject
    yield from ("$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.LIST", "$JS.API.INFO", "$JS.API.ACCOUNT.PURGE.x")
    yield from ("$JS.API.CONSUMER.DELETE.EVENT_BATCHES.executions-event-lane-0", "$SYS.REQ.SERVER.PING")


@pytest.mark.parametrize("credentials", ["", "registry@", "registry:wrong@", "sys:sys@", "admin:admin@"])
async def test_nobody_gets_in_without_the_password_of_a_user(attacked: Sandbox, credentials: str) -> None:
    place = address_of(attacked, "registry").rpartition("@")[2]
    await check_refused(f"nats://{credentials}{place}")


async def test_the_password_of_one_user_does_not_open_for_another(attacked: Sandbox) -> None:
    passwords = Layout(attacked.folder).secrets().nats_passwords
    assert len(set(passwords.values())) == len(USERS)
    place = address_of(attacked, "registry").rpartition("@")[2]
    await check_refused(f"nats://events:{passwords['registry']}@{place}")


@pytest.mark.parametrize("user", USERS)
async def test_a_user_hears_and_says_nothing_that_is_not_its_own(attacked: Sandbox, user: str) -> None:
    intruder = Intruder(user)
    async with intruder.inside(address_of(attacked, user)) as client:
        for subject in others_subjects(user):
            await client.subscribe(subject)
            await client.subscribe(subject, queue="registry")
        for subject in others_words(user):
            await client.publish(subject, b"{}")
        await client.flush()
        tries = 2 * len(list(others_subjects(user))) + len(list(others_words(user)))
        with contextlib.suppress(TimeoutError):  # what was not refused is named below
            await until(lambda: len(intruder.told) >= tries, REFUSED_SECONDS)
        heard = [subject for subject in others_subjects(user) if not intruder.denied("subscription", subject)]
        said = [subject for subject in others_words(user) if not intruder.denied("publish", subject)]
        assert (heard, said) == ([], []), intruder.told


async def test_an_answer_is_taken_once_and_from_who_was_asked_alone(attacked: Sandbox) -> None:
    intruder = Intruder("projects")
    bus = await Bus.connect(address_of(attacked, "registry"), "test-nats-users")
    try:
        with pytest.raises(NotFound):
            await bus.request(projects.GET_PROJECT, ProjectGetRequest(id="none-of-this-name"))
        with pytest.raises(Unavailable):  # it is no question of the registry's to ask
            await bus.request(executions.GET_DEFAULT_CONFIG, Empty())
    finally:
        await bus.close()
    async with intruder.inside(address_of(attacked, "projects")) as client:
        await client.publish(f"_INBOX.registry.{'x' * 22}.1", Project(id="forged").SerializeToString())
        await until(lambda: len(intruder.told) == 1)


async def test_no_service_sends_an_answer_where_the_one_who_asked_may_not(attacked: Sandbox) -> None:
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


async def test_the_whole_stack_works_and_the_server_has_nothing_to_refuse_to_it(
    attacked: Sandbox, plan: Identifier
) -> None:
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
    """URLs of a server of the test's own, by user."""
    passwords = {user: f"{user}-password" for user in USERS}
    with running_nats(tmp_path, free_port(), authorization(passwords)) as url:
        place = url.removeprefix("nats://")
        yield {user: f"nats://{user}:{password}@{place}" for user, password in passwords.items()}


@pytest.fixture
async def buses(guarded: dict[str, str]) -> AsyncIterator[dict[str, Bus]]:
    """A connection of each service, as it makes it."""
    opened = {user: await Bus.connect(url, user) for user, url in guarded.items()}
    yield opened
    for bus in opened.values():
        await bus.close()


async def test_each_user_may_do_all_that_its_service_does(buses: dict[str, Bus]) -> None:
    """Also what a sandbox has no occasion for, such as an engine's work and verdicts that were missed."""
    seen: list[str] = []

    async def take(delivery: Delivery) -> None:
        seen.append(delivery.subject)

    # In the order that is hardest: whoever reads comes before whoever keeps.
    await buses["events"].ensure(announcements_of("executions"), own=False)
    await buses["events"].consume(announcements_of("executions"), event_batches.EVENT_REFUSED.subject, REFUSALS, take)
    await buses["executions"].ensure(STREAM, own=False)
    lane = event_batches.subject_of(0)
    await buses["executions"].consume(STREAM, lane, event_batches.durable_of(0), take)
    for owner in ("registry", "executions", "projects"):
        await buses[owner].ensure(announcements_of(owner))
        for fact in (fact for fact in FACTS if fact.owner == owner):
            await buses[owner].append(fact.subject, b"said", fact.subject)
    engine = await buses["executions"].pull(
        announcements_of("executions"), engine_inputs.SUBJECTS, engine_inputs.DURABLE
    )
    facts = await engine.fetch(10)
    assert len(facts) == 2
    await engine.done(facts)

    await buses["events"].renew(BATCHES)
    log = await make_ready(buses["events"])
    await buses["events"].append(lane, b"batch", "batch")
    assert await buses["events"].oldest(BATCHES) is not None
    await until(lambda: sorted(seen) == sorted([lane, event_batches.EVENT_REFUSED.subject]))
    batches = await log.fetch(10)
    await log.done(batches)
    heard: list[bytes] = []

    async def hear(data: bytes) -> None:
        heard.append(data)

    await buses["events"].subscribe(event_batches.VERDICTS, hear)
    await buses["events"]._client.flush()
    await buses["executions"].send(event_batches.inbox_of("abc"), b"verdicts")
    await until(lambda: heard == [b"verdicts"])
    read = [one.payload async for burst in buses["events"].read(SAID, batches[0].stored_at) for one in burst]
    assert read == [b"verdicts"]
    for bus in buses.values():
        await bus.mend()
        assert not bus._client.last_error


async def test_a_stream_of_a_former_release_is_replaced_by_its_keeper(
    buses: dict[str, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nats.js.api import RetentionPolicy, StreamConfig

    former = StreamConfig(name=BATCHES.name, subjects=[*BATCHES.subjects], retention=RetentionPolicy.WORK_QUEUE)
    await buses["events"]._stream.add_stream(former)
    await buses["events"].renew(BATCHES)
    found = await buses["events"]._stream.stream_info(BATCHES.name)
    assert found.config.retention == RetentionPolicy.INTEREST
    monkeypatch.undo()


async def test_questions_of_every_contract_reach_their_owner_and_nobody_else(buses: dict[str, Bus]) -> None:
    for question in QUESTIONS:
        owner = question.subject.split(".")[1]

        async def answer(_request: object, question: ServiceRequest = question) -> bytes:  # type: ignore[type-arg]
            reply: bytes = question.reply().SerializeToString()
            return reply

        await buses[owner].serve(question, answer)
        for asker in (user for user, rights in USERS.items() if question.subject in rights.requests):
            assert await buses[asker].request(question, question.request()) == question.reply()
    asked = {subject for rights in USERS.values() for subject in rights.requests}
    assert asked <= {question.subject for question in QUESTIONS}
    assert LaunchPlan() == await buses["executions"].request(registry.GET_LAUNCH_PLAN, ObjectGetRequest())
