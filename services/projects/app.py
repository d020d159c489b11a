"""The construction of the projects service; no other module constructs its parts."""

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from time import time

from flyteidl.admin.project_pb2 import Domain
from flyteidl.service import admin_pb2, auth_pb2, identity_pb2
from starlette.routing import Route

from services.contracts.audit import CHANGES, resource_of
from services.contracts.authorization.switch import Authorization
from services.contracts.flyte_services import SERVICE_NAMES
from services.contracts.projects import PROJECT_REGISTERED
from services.kit.audit.trail import AuditTrail
from services.kit.db.database import Database
from services.kit.messaging.outbox import Outbox, Relay
from services.kit.process.service import App, Connections
from services.kit.rpc.table import Table
from services.projects.config import Settings
from services.projects.consumers.requests import ProjectRequests
from services.projects.jobs.cluster_resource_source import ClusterResourceSource
from services.projects.jobs.cluster_resources import ClusterResources, open_appliers
from services.projects.login.client import Client
from services.projects.login.discovery import Discovery
from services.projects.login.routes import BrowserLogin
from services.projects.rpc.attributes import AttributeHandlers
from services.projects.rpc.auth_metadata import AuthMetadataHandlers
from services.projects.rpc.identity import IdentityHandlers
from services.projects.rpc.projects import ProjectHandlers
from services.projects.rpc.version import VersionHandlers
from services.projects.rules.projects import seeded
from services.projects.store import projects as store

NAME = "projects"
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
AUTH_METADATA_SERVICE = auth_pb2.DESCRIPTOR.services_by_name["AuthMetadataService"]
IDENTITY_SERVICE = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]


async def build(settings: Settings, connections: Connections, stack: AsyncExitStack) -> App:
    """Build the service on `connections`, seed the configured projects and begin to serve other services."""
    domains = [Domain(id=domain.id, name=domain.name) for domain in settings.domains]
    outbox = Outbox()
    relay = Relay(NAME, connections.db, connections.bus, outbox)

    await _seed(settings.seed_projects, connections.db, outbox, clock=_now)
    await ProjectRequests(connections.db, domains).listen(connections.bus)

    authorization = Authorization.of(settings)
    trail = AuditTrail.of(NAME, settings, connections.db, connections.bus, changes=CHANGES, resource_of=resource_of)
    table = Table(authorize=authorization.hook, audit=trail.audit)
    table.bind(
        ADMIN_SERVICE,
        ProjectHandlers(connections.db, outbox, domains, clock=_now, authorizer=authorization.authorizer),
        AttributeHandlers(connections.db, connections.bus, outbox, domains, clock=_now),
        VersionHandlers(settings, started=_now()),
    )
    routes = []
    if settings.auth_issuer:
        discovery = Discovery(settings.auth_issuer, settings.auth_ca_file)
        stack.push_async_callback(discovery.close)
        table.bind(AUTH_METADATA_SERVICE, AuthMetadataHandlers(settings, discovery))
        table.bind(IDENTITY_SERVICE, IdentityHandlers())
        routes = _login_routes(settings, discovery, stack)
    loops = [relay.run, *authorization.loops, *trail.loops]
    if settings.cluster_resource_templates is not None:
        source = ClusterResourceSource(connections.db, settings)
        appliers = open_appliers(settings, source, stack)
        loops.append(ClusterResources(settings.database_url, connections.bus, appliers).run)
    return App(
        table,
        services=SERVICE_NAMES,
        loops=loops,
        routes=routes,
        flush=trail.flush,
        checks={"the database": connections.db.check_writes},
    )


def _login_routes(settings: Settings, discovery: Discovery, stack: AsyncExitStack) -> list[Route]:
    if not settings.login_client_id:
        return []
    client_id, secret = settings.login_client_id, settings.login_client_secret
    client = Client(discovery, settings.auth_issuer, client_id, secret, settings.auth_ca_file, clock=time)
    stack.push_async_callback(client.close)
    origins = settings.login_redirect_origins
    return BrowserLogin(client, settings.login_scopes, settings.public_url, origins, clock=time).routes


async def _seed(names: Iterable[str], db: Database, outbox: Outbox, *, clock: Callable[[], datetime]) -> None:
    """Insert the projects `names` that are absent, in one transaction; leave existing ones (projects.md#seeding)."""
    async with db.transaction() as connection:
        for project in map(seeded, names):
            if await store.insert(connection, project, clock()):
                await outbox.put(connection, PROJECT_REGISTERED, project)


def _now() -> datetime:
    return datetime.now(UTC)
