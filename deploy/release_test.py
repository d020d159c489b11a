"""`python -m deploy.release_test HOST:PORT`: register a task through the gateway, launch it, read it back.

`helm test` runs it. Each run registers a version of its own. Without `--wait` the execution is terminated at the end;
with it, an engine must have brought it to its end by then. Where callers log in, it does so as the client `--client-id`
with the secret in the variable CLIENT_SECRET.
"""

import argparse
import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from flyteidl.admin.common_pb2 import ObjectGetRequest
from flyteidl.admin.execution_pb2 import (
    Execution,
    ExecutionCreateRequest,
    ExecutionSpec,
    ExecutionTerminateRequest,
    WorkflowExecutionGetDataRequest,
    WorkflowExecutionGetRequest,
)
from flyteidl.admin.task_pb2 import TaskCreateRequest, TaskSpec
from flyteidl.core.execution_pb2 import WorkflowExecution
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, WorkflowExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface, Variable, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralMap, Primitive, Scalar
from flyteidl.core.tasks_pb2 import Container, RuntimeMetadata, TaskMetadata, TaskTemplate
from flyteidl.core.types_pb2 import LiteralType, SimpleType
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from flyteidl.service.auth_pb2 import OAuth2MetadataRequest, PublicClientAuthConfigRequest
from flyteidl.service.auth_pb2_grpc import AuthMetadataServiceStub

_NAME = "flyteplane.release_test"
_INPUT, _VALUE = "number", 5
# Of one call: pods of a release that was just installed may still be starting.
_CALL_SECONDS = 60.0
_POLL_SECONDS = 1.0
_ENDS = frozenset(
    (WorkflowExecution.SUCCEEDED, WorkflowExecution.FAILED, WorkflowExecution.ABORTED, WorkflowExecution.TIMED_OUT)
)


class ReleaseTestError(Exception):
    """The release does not do what it must."""


class ReleaseTest:
    """One run against the gateway behind `channel`."""

    def __init__(self, channel: grpc.aio.Channel, project: str, domain: str, image: str) -> None:
        self._admin = AdminServiceStub(channel)
        self._project, self._domain, self._image = project, domain, image

    async def run(self, wait_seconds: float) -> str:
        """Return what was seen.

        Raises:
            ReleaseTestError: something read back is not what was written, or the execution does not succeed in time.
            grpc.aio.AioRpcError: a call fails.
        """
        version = f"{time.time_ns():x}"
        task = await self._register(version)
        inputs = LiteralMap(literals={_INPUT: Literal(scalar=Scalar(primitive=Primitive(integer=_VALUE)))})
        spec = ExecutionSpec(launch_plan=task)
        created = await self._admin.CreateExecution(
            ExecutionCreateRequest(
                project=self._project, domain=self._domain, name=f"rt{version}", spec=spec, inputs=inputs
            ),
            timeout=_CALL_SECONDS,
            wait_for_ready=True,
        )
        await self._check_inputs(created.id, inputs)
        if not wait_seconds:
            await self._admin.TerminateExecution(
                ExecutionTerminateRequest(id=created.id, cause="the end of the release's test"), timeout=_CALL_SECONDS
            )
            return f"registered, launched and read back {created.id.name}"
        execution = await self._end(created.id, wait_seconds)
        if execution.closure.phase != WorkflowExecution.SUCCEEDED:
            phase = WorkflowExecution.Phase.Name(execution.closure.phase)
            raise ReleaseTestError(f"{created.id.name} is {phase}: {execution.closure.error.message}")
        return f"{created.id.name} succeeded"

    async def _register(self, version: str) -> Identifier:
        identifier = Identifier(
            resource_type=ResourceType.TASK, project=self._project, domain=self._domain, name=_NAME, version=version
        )
        number = Variable(type=LiteralType(simple=SimpleType.INTEGER), description="any number")
        template = TaskTemplate(
            type="container",
            metadata=TaskMetadata(runtime=RuntimeMetadata(type=RuntimeMetadata.OTHER, version=version)),
            interface=TypedInterface(inputs=VariableMap(variables={_INPUT: number}), outputs=VariableMap()),
            container=Container(image=self._image, command=["true"]),
        )
        await self._admin.CreateTask(
            TaskCreateRequest(id=identifier, spec=TaskSpec(template=template)),
            timeout=_CALL_SECONDS,
            wait_for_ready=True,
        )
        stored = await self._admin.GetTask(ObjectGetRequest(id=identifier), timeout=_CALL_SECONDS)
        if stored.closure.compiled_task.template.container != template.container:
            raise ReleaseTestError(f"the task {_NAME} {version} is not what was registered")
        return identifier

    async def _check_inputs(self, execution: WorkflowExecutionIdentifier, inputs: LiteralMap) -> None:
        data = await self._admin.GetExecutionData(WorkflowExecutionGetDataRequest(id=execution), timeout=_CALL_SECONDS)
        if data.full_inputs != inputs:
            raise ReleaseTestError(f"the inputs of {execution.name} are not what was sent")

    async def _end(self, name: WorkflowExecutionIdentifier, wait_seconds: float) -> Execution:
        """Return the execution at its end; raise ReleaseTestError when it does not end in time."""
        until = time.monotonic() + wait_seconds
        while True:
            execution: Execution = await self._admin.GetExecution(
                WorkflowExecutionGetRequest(id=name), timeout=_CALL_SECONDS
            )
            if execution.closure.phase in _ENDS:
                return execution
            if time.monotonic() > until:
                phase = WorkflowExecution.Phase.Name(execution.closure.phase)
                raise ReleaseTestError(f"{name.name} is still {phase} after {wait_seconds:g} s")
            await asyncio.sleep(_POLL_SECONDS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with a message when the release does not work."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release_test", description=__doc__)
    parser.add_argument("target", metavar="HOST:PORT", help="the gateway")
    parser.add_argument("--project", default="flytesnacks", help="project of the task")
    parser.add_argument("--domain", default="development", help="its domain")
    parser.add_argument("--image", default="busybox:1.37", help="its image, for an engine")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for the end")
    parser.add_argument("--tls", action="store_true", help="call by TLS")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM certificates to trust; none: the system's")
    parser.add_argument("--server-name", default="", metavar="NAME", help="name in the gateway's certificate")
    parser.add_argument("--client-id", default="", metavar="ID", help="client at the OpenID provider; none: no login")
    parser.add_argument("--provider-ca", type=Path, metavar="FILE", help="as --ca, for the OpenID provider")
    chosen = parser.parse_args(arguments)
    try:
        seen = asyncio.run(_run(chosen))
    except (ReleaseTestError, aiohttp.ClientError) as error:
        sys.exit(str(error))
    except grpc.aio.AioRpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
    sys.stdout.write(f"{seen}\n")


async def _run(chosen: argparse.Namespace) -> str:
    interceptors: list[Any] = []
    if chosen.client_id:
        async with _channel(chosen) as channel:
            interceptors.append(ClientToken(await _logged_in(channel, chosen)))
    async with _channel(chosen, interceptors) as channel:
        return await ReleaseTest(channel, chosen.project, chosen.domain, chosen.image).run(chosen.wait)


async def _logged_in(channel: grpc.aio.Channel, chosen: argparse.Namespace) -> str:
    """Return a token of the client, as flytekit gets one: the gateway says where."""
    stub = AuthMetadataServiceStub(channel)
    provider = await stub.GetOAuth2Metadata(OAuth2MetadataRequest(), timeout=_CALL_SECONDS, wait_for_ready=True)
    client = await stub.GetPublicClientConfig(PublicClientAuthConfigRequest(), timeout=_CALL_SECONDS)
    grant = {"grant_type": "client_credentials", "scope": " ".join(client.scopes)}
    if client.audience:
        grant["audience"] = client.audience
    verify = ssl.create_default_context(cafile=str(chosen.provider_ca) if chosen.provider_ca else None)
    own = {"Authorization": aiohttp.encode_basic_auth(chosen.client_id, os.environ.get("CLIENT_SECRET", ""))}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=verify)) as session,
        session.post(provider.token_endpoint, data=grant, headers=own) as response,
    ):
        text = await response.text()
    if response.status != HTTPStatus.OK:
        raise ReleaseTestError(f"no token for {chosen.client_id}: {response.status} {text[:500]}")
    return str(json.loads(text)["access_token"])


class ClientToken(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Adds a token to every call of a channel."""

    def __init__(self, token: str) -> None:
        self._field = ("flyte-authorization", f"Bearer {token}")

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make the call with the token."""
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), self._field)
        return await continuation(client_call_details._replace(metadata=metadata), request)


def _channel(chosen: argparse.Namespace, interceptors: Sequence[Any] = ()) -> grpc.aio.Channel:
    if not chosen.tls:
        return grpc.aio.insecure_channel(chosen.target, interceptors=interceptors)
    credentials = grpc.ssl_channel_credentials(chosen.ca.read_bytes() if chosen.ca else None)
    options = [("grpc.ssl_target_name_override", chosen.server_name)] if chosen.server_name else []
    return grpc.aio.secure_channel(chosen.target, credentials, options=options, interceptors=interceptors)


if __name__ == "__main__":
    main()
