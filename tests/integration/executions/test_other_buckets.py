"""Data that an engine wrote to other buckets of the store's provider, on a real S3 server."""

import hashlib
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import psycopg
import pytest
from flyteidl.admin.execution_pb2 import ExecutionClosure, WorkflowExecutionGetDataRequest
from flyteidl.admin.node_execution_pb2 import (
    GetDynamicNodeWorkflowRequest,
    NodeExecutionClosure,
    NodeExecutionGetDataRequest,
)
from flyteidl.admin.task_execution_pb2 import TaskExecutionClosure, TaskExecutionGetDataRequest
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    CreateDownloadLinkRequest,
    CreateDownloadLocationRequest,
    CreateUploadLocationRequest,
    GetDataRequest,
)
from flyteidl.service.dataproxy_pb2_grpc import DataProxyServiceStub

from tests.support.entities import DOMAIN, PROJECT, literals
from tests.support.execution_rows import execution, node, task
from tests.support.executions import execution_id, node_id, task_id
from tests.support.parts import Parts, Served, service
from tests.support.refusals import refused
from tests.support.s3 import DENIED, FAR_REGION, REGION, S3, running_s3, written

INPUTS, OUTPUTS = literals(a=1), literals(o=2)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    buckets = dict.fromkeys(("own", "team-a", "raw", "private"), REGION)
    with running_s3({**buckets, "team-far": FAR_REGION}) as server:
        yield server


@pytest.fixture(scope="module")
async def served(parts: Parts, s3: S3) -> AsyncIterator[Served]:
    async with service(
        "executions",
        parts,
        "bucket_executions",
        objects_url="s3://own/flyte",
        objects_buckets=("s3://team-*", "s3://nowhere", f"s3://{DENIED}"),
        objects_endpoint=s3.url,
        objects_region=REGION,
        output_location_prefix="s3://raw/data",
        signed_data_urls=True,
    ) as running:
        yield running


async def fetched(url: str) -> bytes:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).raise_for_status().content


async def test_all_data_of_an_execution_may_be_in_other_buckets(
    s3: S3, admin: AdminServiceStub, proxy: DataProxyServiceStub, database: psycopg.AsyncConnection[Any]
) -> None:
    compiled = CompiledWorkflowClosure()
    compiled.primary.template.id.name = "dynamic"
    inputs = await written(s3, "s3://own/metadata/propeller/p-d-e/inputs.pb", INPUTS.SerializeToString())
    outputs = await written(s3, "s3://team-a/p-d-e/outputs.pb", OUTPUTS.SerializeToString())
    deck = await written(s3, "s3://raw/p-d-e/deck.html", b"<html>deck</html>")
    dynamic = await written(s3, "s3://team-a/p-d-e/dynamic.pb", compiled.SerializeToString())
    await execution(database, "anywhere", inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": outputs}))
    closure = NodeExecutionClosure(output_uri=outputs, deck_uri=deck)
    stored = {"input_uri": inputs, "dynamic_workflow_remote_closure_reference": dynamic}
    await node(database, "anywhere", "n0", closure=closure, **stored)
    await task(database, "anywhere", "n0", input_uri=inputs, closure=TaskExecutionClosure(output_uri=outputs))

    of_node = await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id("anywhere", "n0")))
    assert of_node.dynamic_workflow.compiled_workflow == compiled
    for response in (
        of_node,
        await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id("anywhere"))),
        await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id("anywhere", "n0"))),
    ):
        assert (response.full_inputs, response.full_outputs) == (INPUTS, OUTPUTS)
        assert await fetched(response.inputs.url) == INPUTS.SerializeToString()
        assert await fetched(response.outputs.url) == OUTPUTS.SerializeToString()
    workflow = await admin.GetDynamicNodeWorkflow(GetDynamicNodeWorkflowRequest(id=node_id("anywhere", "n0")))
    assert workflow.compiled_workflow == compiled
    request = CreateDownloadLinkRequest(artifact_type=ARTIFACT_TYPE_DECK, node_execution_id=node_id("anywhere", "n0"))
    assert await fetched((await proxy.CreateDownloadLink(request)).signed_url[0]) == b"<html>deck</html>"
    base = f"flyte://v1/{PROJECT}/{DOMAIN}/anywhere/n0"
    assert (await proxy.GetData(GetDataRequest(flyte_url=f"{base}/o"))).literal_map == OUTPUTS
    signed = await proxy.GetData(GetDataRequest(flyte_url=f"{base}/d"))
    assert await fetched(signed.pre_signed_urls.signed_url[0]) == b"<html>deck</html>"


LOST = ("s3://private/x", "s3://team-a/gone", "s3://nowhere/x", f"s3://{DENIED}/x", "s3://team-far/x", "gs://team-a/x")


@pytest.mark.parametrize("uri", LOST)
async def test_what_cannot_be_read_hides_nothing_else(
    s3: S3, admin: AdminServiceStub, proxy: DataProxyServiceStub, database: psycopg.AsyncConnection[Any], uri: str
) -> None:
    for there in (f"s3://{DENIED}/x", "s3://private/x"):
        await written(s3, there, OUTPUTS.SerializeToString())
    await written(s3, "s3://team-far/x", OUTPUTS.SerializeToString(), FAR_REGION)
    inputs = await written(s3, "s3://team-a/inputs", INPUTS.SerializeToString())
    name = f"lost{LOST.index(uri)}"
    await execution(database, name, inputs_uri=inputs, closure=ExecutionClosure(outputs={"uri": uri}))
    closure = NodeExecutionClosure(output_uri=uri, deck_uri=uri)
    stored = {"input_uri": inputs, "dynamic_workflow_remote_closure_reference": uri}
    await node(database, name, "n0", closure=closure, **stored)
    await task(database, name, "n0", input_uri=inputs, closure=TaskExecutionClosure(output_uri=uri))
    for response in (
        await admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution_id(name))),
        await admin.GetNodeExecutionData(NodeExecutionGetDataRequest(id=node_id(name, "n0"))),
        await admin.GetTaskExecutionData(TaskExecutionGetDataRequest(id=task_id(name, "n0"))),
    ):
        assert response.full_inputs == INPUTS
        assert (response.HasField("full_outputs"), response.outputs.url) == (False, "")
    base, code = f"flyte://v1/{PROJECT}/{DOMAIN}/{name}/n0", grpc.StatusCode.NOT_FOUND
    assert (await proxy.GetData(GetDataRequest(flyte_url=f"{base}/i"))).literal_map == INPUTS
    await refused(proxy.GetData(GetDataRequest(flyte_url=f"{base}/o")), code, "is gone")
    await refused(proxy.GetData(GetDataRequest(flyte_url=f"{base}/d")), code, "object not found")
    request = GetDynamicNodeWorkflowRequest(id=node_id(name, "n0"))
    await refused(admin.GetDynamicNodeWorkflow(request), code, "is gone")


async def test_an_upload_goes_to_the_own_bucket_and_can_be_downloaded(proxy: DataProxyServiceStub) -> None:
    digest = hashlib.md5(b"package", usedforsecurity=False).digest()
    request = CreateUploadLocationRequest(project="p", domain="d", filename="fast.tar.gz", content_md5=digest)
    for _ in range(2):  # pyflyte uploads the same package again
        location = await proxy.CreateUploadLocation(request)
        headers = {"Content-MD5": b64encode(digest).decode(), **location.headers}
        async with httpx.AsyncClient() as client:
            (await client.put(location.signed_url, content=b"package", headers=headers)).raise_for_status()
    assert location.native_url.startswith("s3://own/flyte/uploads/p/d/")
    download = CreateDownloadLocationRequest(native_url=location.native_url)
    assert await fetched((await proxy.CreateDownloadLocation(download)).signed_url) == b"package"

    named = CreateUploadLocationRequest(project="p", domain="d", filename="f", filename_root="r", content_md5=digest)
    location = await proxy.CreateUploadLocation(named)
    async with httpx.AsyncClient() as client:
        (await client.put(location.signed_url, content=b"package")).raise_for_status()
    await proxy.CreateUploadLocation(named)
    named.content_md5 = bytes(16)
    await refused(proxy.CreateUploadLocation(named), grpc.StatusCode.ALREADY_EXISTS, "file already exists at location")


async def test_a_download_is_signed_in_every_allowed_bucket_and_no_other(s3: S3, proxy: DataProxyServiceStub) -> None:
    for uri in ("s3://own/other/x", "s3://team-a/x", "s3://raw/elsewhere/x"):
        await written(s3, uri, uri.encode())
        signed = await proxy.CreateDownloadLocation(CreateDownloadLocationRequest(native_url=uri))
        assert await fetched(signed.signed_url) == uri.encode()
    for uri in ("s3://private/x", "s3://own", "gs://own/x", "file:///etc/passwd", "s3://team-a/../private/x"):
        request = CreateDownloadLocationRequest(native_url=uri)
        await refused(
            proxy.CreateDownloadLocation(request),
            grpc.StatusCode.INVALID_ARGUMENT,
            "error while validating request: invalid uri",
        )
