"""Inputs and outputs of executions, nodes and tasks (executions.md#getexecutiondata)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial

from cachetools import LRUCache
from flyteidl.admin.common_pb2 import UrlBlob
from flyteidl.admin.execution_pb2 import (
    ExecutionClosure,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetDataResponse,
)
from flyteidl.admin.node_execution_pb2 import (
    GetDynamicNodeWorkflowRequest,
    NodeExecutionClosure,
    NodeExecutionGetDataRequest,
    NodeExecutionGetDataResponse,
)
from flyteidl.admin.task_execution_pb2 import (
    TaskExecutionClosure,
    TaskExecutionGetDataRequest,
    TaskExecutionGetDataResponse,
)
from google.protobuf.message import DecodeError

from services.contracts.identifiers import check_execution_identifier, check_node_execution_identifier
from services.executions.config import Settings
from services.executions.responses.data import DataResponse, data_fields, dynamic_node_workflow, dynamic_workflow
from services.executions.rules import data as rules
from services.executions.rules.errors import missing
from services.executions.rules.identifiers import check_task_execution_id
from services.executions.store import executions, node_executions, task_executions
from services.kit.db.database import Database
from services.kit.errors import NotFound
from services.kit.objects.errors import LargeObject
from services.kit.objects.store import ObjectStore, report_lost_object
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.fairness import FairSemaphore, slot_for_response
from services.kit.rpc.json_replies import JSON_REPLY_HEADER
from services.kit.rpc.table import Call

# The URI comes from an engine and may be that of an upload of many GiB. Engines write outputs of 10 MB at most.
_MOST_BYTES = 16 * 1024 * 1024
# The limit in replies that the gateway writes as JSON. Inputs and outputs of this size take it 0.8 s if they are small
# literals, and it serves no other client meanwhile.
_MOST_JSON_BYTES = 15 * 256 * 1024
# Objects never change once a row names them, and the console reads those of an execution again and again. Small ones
# stay in memory, those of some thousand executions.
_CACHE_BYTES = 16 * 1024 * 1024
_MOST_CACHED_BYTES = 64 * 1024
_MOST_CACHED_URI = 1024
# What an entry takes in addition to its content, at most.
_ENTRY_BYTES = 2 * 1024
# Larger objects are read into memory for a few calls at a time: a client may name the same one in many.
_USUAL_BYTES = 256 * 1024
_LARGE_CALLS = 8
_LARGE_CALLS_OF_CONNECTION = 4


class DataHandlers:
    """The RPCs that return inputs and outputs."""

    def __init__(self, db: Database, objects: ObjectStore, cpu_pool: CpuPool, settings: Settings) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._objects = objects
        self._max_bytes = settings.inline_data_max_bytes
        self._signed = settings.signed_data_urls
        self._url_lifetime = timedelta(seconds=settings.signed_data_url_seconds)
        self._cache: LRUCache[str, bytes] = LRUCache(_CACHE_BYTES, lambda content: _ENTRY_BYTES + len(content))
        self._large_calls = FairSemaphore(_LARGE_CALLS, _LARGE_CALLS_OF_CONNECTION)

    async def GetExecutionData(self, request: WorkflowExecutionGetDataRequest, call: Call) -> bytes:
        """Return the inputs of an execution, completed with defaults, and its outputs; raises NotFound."""
        check_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        located = rules.execution_outputs(ExecutionClosure.FromString(row.closure))
        return await self._data_fields(call, WorkflowExecutionGetDataResponse, row.inputs_uri, located)

    async def GetNodeExecutionData(self, request: NodeExecutionGetDataRequest, call: Call) -> bytes:
        """Return a node's inputs and outputs, and the workflow of a dynamic node; raises NotFound."""
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        closure = NodeExecutionClosure.FromString(row.closure)
        urls = NodeExecutionGetDataResponse(flyte_urls=rules.node_urls(request.id, deck=bool(closure.deck_uri)))
        rest = urls.SerializeToString()
        located = rules.outputs(closure)
        if not row.dynamic_workflow_uri:
            return await self._data_fields(call, NodeExecutionGetDataResponse, row.input_uri, located) + rest
        async with self._large_call():
            parse = partial(dynamic_workflow, closure.dynamic_job_spec_uri)
            rest += await self._parse(row.dynamic_workflow_uri, parse) or b""
            fetched = await self._fetch_whole((rules.Location(row.input_uri), located), call)
            return data_fields(NodeExecutionGetDataResponse, *fetched) + rest

    async def GetDynamicNodeWorkflow(self, request: GetDynamicNodeWorkflowRequest, _call: Call) -> bytes:
        """Return the workflow of a dynamic node; raises NotFound, also for a node without one.

        See executions.md#getdynamicnodeworkflow.
        """
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        if not row.dynamic_workflow_uri:
            raise NotFound("node does not contain dynamic workflow")
        async with self._large_call():
            response = await self._parse(row.dynamic_workflow_uri, dynamic_node_workflow)
            if response is None:
                raise NotFound(
                    f"the dynamic workflow of the node is gone, or has no primary workflow: {row.dynamic_workflow_uri}"
                )
            return response

    async def GetTaskExecutionData(self, request: TaskExecutionGetDataRequest, call: Call) -> bytes:
        """Return the inputs and outputs of one attempt of a task; raises NotFound."""
        check_task_execution_id(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await task_executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        located = rules.outputs(TaskExecutionClosure.FromString(row.closure))
        rest = TaskExecutionGetDataResponse(flyte_urls=rules.task_urls(request.id))
        fields = await self._data_fields(call, TaskExecutionGetDataResponse, row.input_uri, located)
        return fields + rest.SerializeToString()

    async def _data_fields(
        self, call: Call, kind: type[DataResponse], input_uri: str, outputs: rules.Location
    ) -> bytes:
        async with self.fetched((rules.Location(input_uri), outputs), call) as (inputs, outputs_):
            return data_fields(kind, inputs, outputs_)

    @asynccontextmanager
    async def fetched(self, locations: Sequence[rules.Location], call: Call) -> AsyncIterator[list[rules.Data]]:
        """Fetch data for a block that makes a response of it (executions.md#inline-data-and-urls).

        Data that is missing in the store does not fail the call: it is returned as GONE, logged and counted.

        Raises:
            Unavailable: The object store is down.
            ResourceExhausted: The data is large, and the client does not read its responses.
        """
        found = await asyncio.gather(*(self._fetch(location, call, usual=True) for location in locations))
        usual = [data for data in found if data is not None]
        if len(usual) == len(found):
            yield usual
            return
        del found, usual
        async with self._large_call():
            yield await self._fetch_whole(locations, call)

    def _large_call(self) -> AbstractAsyncContextManager[None]:
        return slot_for_response(self._large_calls)

    async def _fetch_whole(self, locations: Sequence[rules.Location], call: Call) -> list[rules.Data]:
        found = await asyncio.gather(*(self._fetch(location, call) for location in locations))
        return [data for data in found if data is not None]

    async def _fetch(self, location: rules.Location, call: Call, *, usual: bool = False) -> rules.Data | None:
        """Fetch data that a response contains, and sign a URL; with `usual` return None for an object that is large."""
        uri = location.uri
        if not uri:
            return rules.from_values(location.values, self._max_bytes)
        if not self._signed and (cached := self._cache.get(uri)) is not None:
            return rules.Data(UrlBlob(), cached)
        blob = UrlBlob()
        if self._signed:
            info = await self._objects.head_or_none(uri)
            if info is None:
                return rules.GONE
            blob = UrlBlob(url=await self._objects.sign_get(uri, self._url_lifetime), bytes=info.size)
        if blob.bytes and self._max_bytes and blob.bytes >= self._max_bytes:
            return rules.Data(blob, None)
        most_bytes = _MOST_JSON_BYTES if JSON_REPLY_HEADER in call.metadata else _MOST_BYTES
        try:
            content = await self._parse(uri, rules.literals, _USUAL_BYTES if usual else most_bytes)
        except LargeObject:
            return None if usual else rules.Data(blob, None)
        if content is None:
            return rules.GONE
        if len(content) <= _MOST_CACHED_BYTES and len(uri) <= _MOST_CACHED_URI:
            self._cache[uri] = content
        return rules.Data(blob, content)

    async def _parse(self, uri: str, parse: Callable[[bytes], bytes], most_bytes: int | None = None) -> bytes | None:
        """Return the result of `parse` for an object's content; None if it is permanently lost.

        An object that `parse` raises DecodeError for is lost, too; it is logged and counted.

        Raises:
            LargeObject: The object has more than `most_bytes`.
            Unavailable: The object store is down.
        """
        content = await self._objects.find(uri, bytes, most_bytes)
        if content is None:
            return None
        try:
            return await self._cpu_pool.parse(content, parse)
        except DecodeError as error:
            report_lost_object(uri, error)
            return None
