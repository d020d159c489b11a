"""Inputs and outputs of executions, nodes and tasks (executions.md#getexecutiondata)."""

import asyncio
from datetime import timedelta

from flyteidl.admin.common_pb2 import UrlBlob
from flyteidl.admin.execution_pb2 import (
    ExecutionClosure,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetDataResponse,
)
from flyteidl.admin.node_execution_pb2 import (
    DynamicNodeWorkflowResponse,
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
from services.executions.responses.data import DataResponse, data_fields
from services.executions.rules import data as rules
from services.executions.rules.errors import missing
from services.executions.rules.identifiers import check_task_execution_id
from services.executions.store import executions, node_executions, task_executions
from services.kit.db.database import Database
from services.kit.errors import NotFound
from services.kit.objects.local_files import LargeObject
from services.kit.objects.store import ObjectStore, missed
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call

# The URI comes from an engine and may be that of an upload of many GiB. Engines write outputs of 10 MB at most.
_MOST_BYTES = 16 * 1024 * 1024
# Data up to this size is parsed on the event loop, in some 10 ms at worst. Larger data is parsed in the CPU pool, as
# 10 MiB of small literals take a second.
_SMALL_BYTES = 128 * 1024


class DataHandlers:
    """The RPCs that return inputs and outputs."""

    def __init__(self, db: Database, objects: ObjectStore, cpu_pool: CpuPool, settings: Settings) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._objects = objects
        self._max_bytes = settings.inline_data_max_bytes
        self._signed = settings.signed_data_urls
        self._url_lifetime = timedelta(seconds=settings.signed_data_url_seconds)

    async def GetExecutionData(self, request: WorkflowExecutionGetDataRequest, _call: Call) -> bytes:
        """Return the inputs of an execution, completed with defaults, and its outputs; raises NotFound."""
        check_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        located = rules.execution_outputs(ExecutionClosure.FromString(row.closure))
        return await self._data_fields(WorkflowExecutionGetDataResponse, row.inputs_uri, located)

    async def GetNodeExecutionData(self, request: NodeExecutionGetDataRequest, _call: Call) -> bytes:
        """Return a node's inputs and outputs, and the workflow of a dynamic node; raises NotFound."""
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        closure = NodeExecutionClosure.FromString(row.closure)
        rest = NodeExecutionGetDataResponse()
        if row.dynamic_workflow_uri:
            compiled = await self._objects.find(row.dynamic_workflow_uri, rules.compiled_workflow)
            if compiled is not None:
                rest = rules.dynamic_workflow(compiled, closure.dynamic_job_spec_uri)
        rest.flyte_urls.CopyFrom(rules.node_urls(request.id, deck=bool(closure.deck_uri)))
        located = rules.outputs(closure)
        return await self._data_fields(NodeExecutionGetDataResponse, row.input_uri, located) + rest.SerializeToString()

    async def GetDynamicNodeWorkflow(
        self, request: GetDynamicNodeWorkflowRequest, _call: Call
    ) -> DynamicNodeWorkflowResponse:
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
        compiled = await self._objects.find(row.dynamic_workflow_uri, rules.compiled_workflow)
        if compiled is None:
            raise NotFound(f"the dynamic workflow of the node is gone: {row.dynamic_workflow_uri}")
        return DynamicNodeWorkflowResponse(compiled_workflow=compiled)

    async def GetTaskExecutionData(self, request: TaskExecutionGetDataRequest, _call: Call) -> bytes:
        """Return the inputs and outputs of one attempt of a task; raises NotFound."""
        check_task_execution_id(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await task_executions.get_data(connection, request.id)
        if row is None:
            raise missing(request.id)
        located = rules.outputs(TaskExecutionClosure.FromString(row.closure))
        rest = TaskExecutionGetDataResponse(flyte_urls=rules.task_urls(request.id))
        return await self._data_fields(TaskExecutionGetDataResponse, row.input_uri, located) + rest.SerializeToString()

    async def _data_fields(self, kind: type[DataResponse], input_uri: str, outputs: rules.Location) -> bytes:
        fetched = await asyncio.gather(self.fetch(rules.Location(input_uri)), self.fetch(outputs))
        return data_fields(kind, *fetched)

    async def fetch(self, location: rules.Location) -> rules.Data:
        """Fetch data that a response contains, and sign a URL (executions.md#inline-data-and-urls).

        Data that is missing in the store does not fail the call: it is returned as GONE, logged and counted.

        Raises:
            Unavailable: The object store is down.
        """
        uri = location.uri
        if not uri:
            return rules.from_values(location.values, self._max_bytes)
        blob = UrlBlob()
        if self._signed:
            info = await self._objects.find_info(uri)
            if info is None:
                return rules.GONE
            blob = UrlBlob(url=await self._objects.sign_get(uri, self._url_lifetime), bytes=info.size)
        if blob.bytes and self._max_bytes and blob.bytes >= self._max_bytes:
            return rules.Data(blob, None)
        try:
            content = await self._objects.find(uri, bytes, _MOST_BYTES)
            if content is None:
                return rules.GONE
            if len(content) <= _SMALL_BYTES:
                return rules.Data(blob, rules.literals(content))
            return rules.Data(blob, await self._cpu_pool.run(rules.literals, content))
        except LargeObject:
            return rules.Data(blob, None)
        except DecodeError as error:
            missed(uri, error)
            return rules.GONE
