"""Inputs and outputs of executions, nodes and tasks (executions.md section 6)."""

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
from services.executions.rules import data as rules
from services.executions.rules import lookups
from services.executions.store import executions, node_executions, task_executions
from services.kit.db.database import Database
from services.kit.errors import NotFound
from services.kit.objects.local_files import LargeObject
from services.kit.objects.store import ObjectStore, missed
from services.kit.rpc.cpu_pool import CpuPool
from services.kit.rpc.table import Call

# An engine names what is read here, and it may be an upload of many GiB. Engines write outputs of 10 MB at most.
_MOST_BYTES = 16 * 1024 * 1024
# What is checked on the event loop, in some 10 ms at worst; a map of many small literals takes a second a 10 MiB.
_CHECKED_AT_ONCE_BYTES = 128 * 1024


class DataHandlers:
    """The RPCs that answer inputs and outputs."""

    def __init__(self, db: Database, objects: ObjectStore, cpu_pool: CpuPool, settings: Settings) -> None:
        self._db = db
        self._cpu_pool = cpu_pool
        self._objects = objects
        self._max_bytes = settings.inline_data_max_bytes
        self._signed = settings.signed_data_urls
        self._url_life = timedelta(seconds=settings.signed_data_url_seconds)

    async def GetExecutionData(self, request: WorkflowExecutionGetDataRequest, _call: Call) -> bytes:
        """Answer what an execution ran with, defaults included, and its outputs; raises NotFound."""
        check_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await executions.get_data(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        located = rules.execution_outputs(ExecutionClosure.FromString(row.closure))
        return await self._answer(WorkflowExecutionGetDataResponse, row.inputs_uri, located)

    async def GetNodeExecutionData(self, request: NodeExecutionGetDataRequest, _call: Call) -> bytes:
        """Answer a node's data, and the workflow that a dynamic node made; raises NotFound."""
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        closure = NodeExecutionClosure.FromString(row.closure)
        rest = NodeExecutionGetDataResponse()
        if row.dynamic_workflow_uri:
            compiled = await self._objects.find(row.dynamic_workflow_uri, rules.compiled_workflow)
            if compiled is not None:
                rest = rules.dynamic_workflow(compiled, closure.dynamic_job_spec_uri)
        rest.flyte_urls.CopyFrom(rules.node_urls(request.id, deck=bool(closure.deck_uri)))
        located = rules.outputs(closure)
        return await self._answer(NodeExecutionGetDataResponse, row.input_uri, located) + rest.SerializeToString()

    async def GetDynamicNodeWorkflow(
        self, request: GetDynamicNodeWorkflowRequest, _call: Call
    ) -> DynamicNodeWorkflowResponse:
        """Answer the workflow that a dynamic node made; raises NotFound for a node that made none (7.4)."""
        check_node_execution_identifier(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await node_executions.get_data(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        if not row.dynamic_workflow_uri:
            raise NotFound("node does not contain dynamic workflow")
        compiled = await self._objects.find(row.dynamic_workflow_uri, rules.compiled_workflow)
        if compiled is None:
            raise NotFound(f"the dynamic workflow of the node is gone: {row.dynamic_workflow_uri}")
        return DynamicNodeWorkflowResponse(compiled_workflow=compiled)

    async def GetTaskExecutionData(self, request: TaskExecutionGetDataRequest, _call: Call) -> bytes:
        """Answer the data of one attempt of a task; raises NotFound."""
        lookups.check_task(request.id if request.HasField("id") else None)
        async with self._db.read() as connection:
            row = await task_executions.get_data(connection, request.id)
        if row is None:
            raise lookups.missing(request.id)
        located = rules.outputs(TaskExecutionClosure.FromString(row.closure))
        rest = TaskExecutionGetDataResponse(flyte_urls=rules.task_urls(request.id))
        return await self._answer(TaskExecutionGetDataResponse, row.input_uri, located) + rest.SerializeToString()

    async def _answer(self, kind: type[rules.Answer], input_uri: str, outputs: rules.Location) -> bytes:
        inputs, found = await asyncio.gather(self.fetched(rules.Location(input_uri)), self.fetched(outputs))
        return rules.answer(kind, inputs, found)

    async def fetched(self, location: rules.Location) -> rules.Data:
        """Fetch data as far as it is answered inline (6.2); raises Unavailable while the store is down.

        Data that is gone hides nothing else of its execution: it is answered as GONE, logged and counted.
        """
        uri = location.uri
        if not uri:
            return rules.from_values(location.values, self._max_bytes)
        blob = UrlBlob()
        if self._signed:
            info = await self._objects.find_info(uri)
            if info is None:
                return rules.GONE
            blob = UrlBlob(url=await self._objects.sign_get(uri, self._url_life), bytes=info.size)
        if blob.bytes and self._max_bytes and blob.bytes >= self._max_bytes:
            return rules.Data(blob, None)
        try:
            content = await self._objects.find(uri, bytes, _MOST_BYTES)
            if content is None:
                return rules.GONE
            if len(content) <= _CHECKED_AT_ONCE_BYTES:
                return rules.Data(blob, rules.literals(content))
            return rules.Data(blob, await self._cpu_pool.run(rules.literals, content))
        except LargeObject:
            return rules.Data(blob, None)
        except DecodeError as error:
            missed(uri, error)
            return rules.GONE
