"""GetData (executions.md#getdata)."""

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

from services.contracts import flyte_urls
from services.executions.rpc.data import DataHandlers
from services.executions.rpc.data_proxy import DataProxyHandlers
from services.executions.rules import artifacts, data, errors
from services.executions.store import node_executions, task_executions
from services.kit.db.database import Database
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from services.kit.protobuf.wire import message_field
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call


class ArtifactHandlers:
    """The RPC that resolves flyte:// URLs, by the RPCs for data and for decks."""

    def __init__(
        self, db: Database, data_handlers: DataHandlers, data_proxy: DataProxyHandlers, cpu_pool: CpuPool
    ) -> None:
        self._db = db
        self._data_handlers = data_handlers
        self._data_proxy = data_proxy
        self._cpu_pool = cpu_pool

    async def GetData(self, request: GetDataRequest, call: Call) -> GetDataResponse | bytes:
        """Return the data of a flyte:// URL or one literal of it; for a deck and for large data, a signed URL."""
        artifact = flyte_urls.parse(request.flyte_url)
        if artifact.kind == flyte_urls.DECK:
            link = CreateDownloadLinkRequest(artifact_type=ARTIFACT_TYPE_DECK, node_execution_id=artifact.node)
            signed = await self._data_proxy.CreateDownloadLink(link, call)
            return GetDataResponse(pre_signed_urls=signed.pre_signed_urls)
        location = await self._location(artifact)
        async with self._data_handlers.fetched((location,), call) as (fetched,):
            return await self._response(request.flyte_url, artifact, location, fetched)

    async def _response(
        self, url: str, artifact: flyte_urls.Artifact, location: data.Location, fetched: data.Data
    ) -> GetDataResponse | bytes:
        if fetched.gone:
            raise NotFound(f"the data of [{url}] is gone: {location.uri}")
        if fetched.full is None:
            if artifact.literal or not location.uri:
                raise ResourceExhausted(f"the data of [{url}] is too large to be answered")
            urls, expires_at = await self._data_proxy.sign_download(location.uri)
            return GetDataResponse(pre_signed_urls=PreSignedURLs(signed_url=urls, expires_at=expires_at))
        if artifact.literal:
            return await self._cpu_pool.parse(fetched.full, partial(artifacts.named, artifact.literal, url))
        return message_field(GetDataResponse.LITERAL_MAP_FIELD_NUMBER, fetched.full)

    async def _location(self, artifact: flyte_urls.Artifact) -> data.Location:
        """Return where inputs or outputs are; raises NotFound for a missing node, InvalidArgument for an attempt."""
        closure: NodeExecutionClosure | TaskExecutionClosure
        async with self._db.read() as connection:
            if artifact.attempt is None:
                node = await node_executions.get_data(connection, artifact.node)
                if node is None:
                    raise errors.missing(artifact.node)
                input_uri, closure = node.input_uri, NodeExecutionClosure.FromString(node.closure)
            else:
                task = await task_executions.get_attempt(connection, artifact.node, artifact.attempt)
                if task is None:
                    raise InvalidArgument("no task executions were listed")
                input_uri, closure = task.input_uri, TaskExecutionClosure.FromString(task.closure)
        return data.Location(input_uri) if artifact.kind == flyte_urls.INPUTS else data.outputs(closure)
