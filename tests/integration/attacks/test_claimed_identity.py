"""Callers who claim an identity (docs/trust.md#what-a-caller-may-claim-in-a-request)."""

import httpx
from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec, WorkflowExecutionGetRequest
from flyteidl.core.identifier_pb2 import Identifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf import json_format

from tests.support.entities import DOMAIN, PROJECT
from tests.support.sandbox import Sandbox

CLAIMS = {
    "authorization": "Bearer root",
    "flyte-authorization": "Bearer root",
    "x-forwarded-user": "root",
    "x-auth-request-user": "root",
    "x-user-subject": "root",
}


def claiming(plan: Identifier, name: str) -> ExecutionCreateRequest:
    request = ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, name=name, spec=ExecutionSpec(launch_plan=plan))
    request.spec.metadata.principal = "root"
    request.spec.metadata.system_metadata.namespace = "kube-system"
    request.spec.metadata.system_metadata.execution_cluster = "production"
    return request


async def test_claimed_identity_is_not_stored(attacked: Sandbox, plan: Identifier) -> None:
    async with attacked.channel() as channel:
        admin = AdminServiceStub(channel)
        metadata = tuple(CLAIMS.items())
        ids = [(await admin.CreateExecution(claiming(plan, "claims-grpc"), metadata=metadata)).id]
        async with httpx.AsyncClient(base_url=f"{attacked.url}/api/v1/", headers=CLAIMS) as client:
            body = json_format.MessageToDict(claiming(plan, "claims-rest"))
            response = await client.post("executions", json=body)
        assert response.status_code == 200, response.text
        ids.append(type(ids[0])(project=PROJECT, domain=DOMAIN, name="claims-rest"))
        for id_ in ids:
            execution = await admin.GetExecution(WorkflowExecutionGetRequest(id=id_))
            assert execution.spec.metadata.principal == ""
            assert execution.spec.security_context.run_as.execution_identity == ""
            assert execution.closure.state_change_details.principal == ""
            assert execution.spec.metadata.system_metadata.namespace == f"{PROJECT}-{DOMAIN}"
            assert execution.spec.metadata.system_metadata.execution_cluster == ""
