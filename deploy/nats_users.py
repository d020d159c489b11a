"""Who may say and hear what over NATS: a user for each service, with permissions for its own subjects only.

The subjects are those of `services.contracts`, the questions to JetStream those of `services.kit`; tests compare. For
every place that runs the services: `authorization` renders what belongs into the server's configuration.

| user | asks | says | hears | keeps streams | reads |
|---|---|---|---|---|---|
| registry | projects | its facts | | FLYTE_REGISTRY | |
| executions | projects, registry | its facts, verdicts | | FLYTE_EXECUTIONS | batches, its facts (engine) |
| events | | batches | verdicts | EVENT_BATCHES, EVENT_VERDICTS | batches (log), verdicts, refused events |
| projects | executions | its facts | | FLYTE_PROJECTS | |

Each but events answers the questions to it, with one reply to each that it was asked, and everybody hears replies below
an inbox of its own. Nobody else gets in: there is no anonymous user, and the system account has none.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# How long a question may be answered; longer than anybody waits.
_ANSWER_TIME = "30s"


@dataclass(frozen=True)
class Consumer:
    """A durable consumer of a stream."""

    stream: str
    name: str
    pushed: bool = False
    """Whether the server sends to `_INBOX.<name>`; otherwise who reads fetches."""
    read: bool = True
    """Whether this user reads; otherwise it only makes it, on behalf of another one."""


@dataclass(frozen=True)
class Rights:
    """What one user may do."""

    answers: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    """Streams of its own, to make and to shape."""
    replaces: tuple[str, ...] = ()
    """Of these, those that it may delete: a stream of a former release is made anew."""
    rereads: tuple[str, ...] = ()
    """Of these, those that it also reads by a consumer without a name."""
    consumers: tuple[Consumer, ...] = ()


_ASK_PROJECTS = ("ask.projects.get_project", "ask.projects.get_project_and_attributes")
_LANE = Consumer("EVENT_BATCHES", "executions-event-lane-0", pushed=True)

USERS: Mapping[str, Rights] = {
    "registry": Rights(
        answers=("ask.registry.*",), asks=_ASK_PROJECTS, says=("flyte.registry.>",), keeps=("FLYTE_REGISTRY",)
    ),
    "executions": Rights(
        answers=("ask.executions.*",),
        asks=(
            *_ASK_PROJECTS,
            "ask.registry.get_launch_plan",
            "ask.registry.launch_task",
            "ask.registry.locate_workflow_closure",
        ),
        says=("flyte.executions.>", "flyte.events.verdicts.*"),
        keeps=("FLYTE_EXECUTIONS",),
        consumers=(_LANE, Consumer("FLYTE_EXECUTIONS", "engine")),
    ),
    "events": Rights(
        says=("flyte.events.batch.*",),
        hears=("flyte.events.verdicts.*",),
        keeps=("EVENT_BATCHES", "EVENT_VERDICTS"),
        replaces=("EVENT_BATCHES",),
        rereads=("EVENT_VERDICTS",),
        consumers=(
            Consumer(_LANE.stream, _LANE.name, read=False),
            Consumer("EVENT_BATCHES", "events-log"),
            Consumer("FLYTE_EXECUTIONS", "events-refusals", pushed=True),
        ),
    ),
    "projects": Rights(
        answers=("ask.projects.*",),
        asks=("ask.executions.get_default_config",),
        says=("flyte.projects.>",),
        keeps=("FLYTE_PROJECTS",),
    ),
}


def authorization(passwords: Mapping[str, str]) -> str:
    """Return the block of the server's configuration that lets these users in, and nobody else."""
    users = [
        {"user": name, "password": passwords[name], "permissions": permissions(name, rights)}
        for name, rights in USERS.items()
    ]
    return f"authorization {json.dumps({'users': users}, indent=1)}\n"


def permissions(name: str, rights: Rights) -> dict[str, object]:
    """Return the permissions of a user as the server's configuration has them."""
    publish = [*rights.asks, *rights.says, *_api(rights)]
    pushed = (f"_INBOX.{one.name}" for one in rights.consumers if one.pushed and one.read)
    allowed: dict[str, object] = {
        "publish": {"allow": publish},
        "subscribe": {"allow": [f"_INBOX.{name}.>", *rights.answers, *rights.hears, *pushed]},
    }
    return allowed | ({"allow_responses": {"max": 1, "expires": _ANSWER_TIME}} if rights.answers else {})


def _api(rights: Rights) -> Iterator[str]:
    """Yield the subjects on which JetStream is asked, and told that messages are done."""
    for stream in rights.keeps:
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE", "UPDATE"))
    for stream in rights.replaces:
        yield from (f"$JS.API.STREAM.DELETE.{stream}", f"$JS.API.CONSUMER.LIST.{stream}")
    for stream in rights.rereads:
        yield from (f"$JS.API.CONSUMER.CREATE.{stream}", f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*")
    for stream in sorted({one.stream for one in rights.consumers} - set(rights.keeps)):
        # Whoever starts first makes it; only who keeps it may change it.
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE"))
    for one in rights.consumers:
        yield from (f"$JS.API.CONSUMER.{verb}.{one.stream}.{one.name}" for verb in ("INFO", "DURABLE.CREATE"))
        if one.read:
            yield f"$JS.ACK.{one.stream}.{one.name}.>"
            if not one.pushed:
                yield f"$JS.API.CONSUMER.MSG.NEXT.{one.stream}.{one.name}"
