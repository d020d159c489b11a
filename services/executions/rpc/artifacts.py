"""GetData: what a flyte:// URL names (executions.md 11.4)."""

from functools import partial

from flyteidl.admin.node_execution_pb2 import NodeExecutionClosure
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure
from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    CreateDownloadLinkRequest,
    GetDataRequest,
    GetDataResponse,
    PreSignedURLs,
)

from services.executions.rpc.data import DataHandlers
from services.executions.rpc.data_proxy import DataProxyHandlers
from services.executions.rules import artifacts as rules
from services.executions.rules import data, lookups
from services.executions.store import node_executions, task_executions
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from services.kit.protobuf.wire import message_field
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call


class ArtifactHandlers:
    """Resolves flyte:// URLs, by what answers data and by what signs decks."""

    def __init__(self, db: Database, values: DataHandlers, links: DataProxyHandlers, cpu_pool: CpuPool) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._values = values
        self._links = links

    async def GetData(self, request: GetDataRequest, call: Call) -> GetDataResponse | bytes:
        """Answer the data, one literal of it, or a signed URL: of a deck, and of data too large to be answered."""
        artifact = rules.parse(request.flyte_url)
        if artifact.kind == rules.DECK:
            link = CreateDownloadLinkRequest(artifact_type=ARTIFACT_TYPE_DECK, node_execution_id=artifact.node)
            return GetDataResponse(pre_signed_urls=(await self._links.CreateDownloadLink(link, call)).pre_signed_urls)
        location = await self._location(artifact)
        found = await self._values.fetched(location, call)
        if found.gone:
            raise NotFound(f"the data of [{request.flyte_url}] is gone: {location.uri}")
        if found.full is None:
            if artifact.literal or not location.uri:
                raise ResourceExhausted(f"the data of [{request.flyte_url}] is too large to be answered")
            urls, expires_at = await self._links.signed(location.uri)
            return GetDataResponse(pre_signed_urls=PreSignedURLs(signed_url=urls, expires_at=expires_at))
        if artifact.literal:
            return await self._cpu_pool.parse(found.full, partial(rules.named, artifact.literal, request.flyte_url))
        return message_field(GetDataResponse.LITERAL_MAP_FIELD_NUMBER, found.full)

    async def _location(self, artifact: rules.Artifact) -> data.Location:
        """Where the inputs or outputs lie; raises NotFound for a node, InvalidArgument for an attempt, as the page."""
        closure: NodeExecutionClosure | TaskExecutionClosure
        async with self._db.read() as connection:
            if artifact.attempt is None:
                node = await node_executions.get_data(connection, artifact.node)
                if node is None:
                    raise lookups.missing(artifact.node)
                input_uri, closure = node.input_uri, NodeExecutionClosure.FromString(node.closure)
            else:
                task = await task_executions.get_attempt(connection, artifact.node, artifact.attempt)
                if task is None:
                    raise InvalidArgument("no task executions were listed")
                input_uri, closure = task.input_uri, TaskExecutionClosure.FromString(task.closure)
        return data.Location(input_uri) if artifact.kind == rules.INPUTS else data.outputs(closure)
