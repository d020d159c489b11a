"""Permissions over NATS: a user for each service, with permissions for its own subjects only.

The subjects are those of `services.contracts`, the requests to JetStream those of `services.kit`; tests compare.
`authorization` renders the block of the server's configuration, for every deployment.

| user | sends requests to | publishes | subscribes to | owns streams | consumes |
|---|---|---|---|---|---|
| registry | projects | announcements | | FLYTE_REGISTRY | |
| executions | projects, registry | announcements, verdicts | | FLYTE_EXECUTIONS | batches, its announcements (engine) |
| events | executions | batches | verdicts | EVENT_BATCHES | refused events |
| projects | executions | announcements | | FLYTE_PROJECTS | its announcements (cluster resources) |
| engine | | | | | |

All but engine publish their audit records. Executions also sends requests to engine, the process of an engine
(`services.contracts.engine`).
Each but events serves requests, with one response to each, and each receives responses below an inbox of its own.
There are no other users: no anonymous user, and none of the system account.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# How long a service may respond to a request; longer than any caller waits.
_RESPONSE_TIME = "30s"


@dataclass(frozen=True)
class Consumer:
    """A durable consumer of a stream."""

    stream: str
    name: str
    pushed: bool = False
    """Whether the server sends to `_INBOX.<name>`; otherwise the reader fetches."""
    read: bool = True
    """Whether this user reads; otherwise it only creates the consumer, for another user."""


@dataclass(frozen=True)
class Permissions:
    """What one user may do; the first four are subjects."""

    serves: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    """Streams of its own, which it creates and configures."""
    replaces: tuple[str, ...] = ()
    """Those of its streams that it may delete, to replace a stream of an earlier release."""
    deletes: tuple[str, ...] = ()
    """What it may delete that a former release has created: streams, and durable consumers as `<stream>.<name>`."""
    consumers: tuple[Consumer, ...] = ()


_REQUEST_PROJECTS = ("ask.projects.get_project", "ask.projects.get_project_and_attributes")
_LANE = Consumer("EVENT_BATCHES", "executions-event-lane-0", pushed=True)

USERS: Mapping[str, Permissions] = {
    "registry": Permissions(
        serves=("ask.registry.*",),
        requests=_REQUEST_PROJECTS,
        publishes=("flyte.registry.>", "flyte.audit.registry"),
        streams=("FLYTE_REGISTRY",),
    ),
    "executions": Permissions(
        serves=("ask.executions.*",),
        requests=(
            *_REQUEST_PROJECTS,
            "ask.registry.get_launch_plan",
            "ask.registry.get_task_launch_plan",
            "ask.registry.locate_workflow_closure",
            "ask.engine.run",
            "ask.engine.stop",
            "ask.engine.missing",
        ),
        publishes=("flyte.executions.>", "flyte.events.verdicts.*", "flyte.audit.executions"),
        subscribes=("flyte.events.apply.*",),
        streams=("FLYTE_EXECUTIONS",),
        consumers=(_LANE, Consumer("FLYTE_EXECUTIONS", "engine")),
    ),
    "events": Permissions(
        requests=("ask.executions.take_applied_batches",),
        publishes=("flyte.events.batch.*", "flyte.events.apply.*", "flyte.audit.events"),
        subscribes=("flyte.events.verdicts.*",),
        streams=("EVENT_BATCHES",),
        replaces=("EVENT_BATCHES",),
        deletes=("EVENT_BATCHES.events-log", "EVENT_VERDICTS"),
        consumers=(
            Consumer(_LANE.stream, _LANE.name, read=False),
            Consumer("FLYTE_EXECUTIONS", "events-refusals", pushed=True),
        ),
    ),
    "projects": Permissions(
        serves=("ask.projects.*",),
        requests=("ask.executions.get_default_config",),
        publishes=("flyte.projects.>", "flyte.audit.projects"),
        streams=("FLYTE_PROJECTS",),
        consumers=(Consumer("FLYTE_PROJECTS", "cluster-resources"),),
    ),
    "engine": Permissions(serves=("ask.engine.*",)),
}


def authorization(passwords: Mapping[str, str]) -> str:
    """Return the block of the server's configuration that admits these users and no others."""
    users = [
        {"user": name, "password": passwords[name], "permissions": permissions}
        for name, permissions in permissions_of_users().items()
    ]
    return f"authorization {json.dumps({'users': users}, indent=1)}\n"


def permissions_of_users() -> dict[str, dict[str, object]]:
    """Return the permissions of each user in the form of the server's configuration, for other deployments."""
    return {name: _in_configuration(name, permissions) for name, permissions in USERS.items()}


def _in_configuration(name: str, permissions: Permissions) -> dict[str, object]:
    """Return the permissions of a user in the form of the server's configuration."""
    publish = [*permissions.requests, *permissions.publishes, *_api(permissions)]
    pushed = (f"_INBOX.{consumer.name}" for consumer in permissions.consumers if consumer.pushed and consumer.read)
    allowed: dict[str, object] = {
        "publish": {"allow": publish},
        "subscribe": {"allow": [f"_INBOX.{name}.>", *permissions.serves, *permissions.subscribes, *pushed]},
    }
    return allowed | ({"allow_responses": {"max": 1, "expires": _RESPONSE_TIME}} if permissions.serves else {})


def _api(permissions: Permissions) -> Iterator[str]:
    """Yield the subjects of requests to JetStream and of acknowledgements."""
    for stream in permissions.streams:
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE", "UPDATE"))
    for stream in permissions.replaces:
        yield from (f"$JS.API.STREAM.DELETE.{stream}", f"$JS.API.CONSUMER.LIST.{stream}")
    for name in permissions.deletes:
        yield f"$JS.API.{'CONSUMER' if '.' in name else 'STREAM'}.DELETE.{name}"
    for stream in sorted({consumer.stream for consumer in permissions.consumers} - set(permissions.streams)):
        # The first service to start creates it; only its owner may change it.
        yield from (f"$JS.API.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE"))
    for consumer in permissions.consumers:
        name = f"{consumer.stream}.{consumer.name}"
        yield from (f"$JS.API.CONSUMER.{verb}.{name}" for verb in ("INFO", "DURABLE.CREATE"))
        if consumer.read:
            yield f"$JS.ACK.{name}.>"
            if not consumer.pushed:
                yield f"$JS.API.CONSUMER.MSG.NEXT.{name}"
