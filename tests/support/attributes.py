"""Matchable attributes of every kind and their requests, at each of the three levels."""

from typing import Any

from flyteidl.admin import project_attributes_pb2 as of_project
from flyteidl.admin import project_domain_attributes_pb2 as of_domain
from flyteidl.admin import workflow_attributes_pb2 as of_workflow
from flyteidl.admin.cluster_assignment_pb2 import ClusterAssignment
from flyteidl.admin.matchable_resource_pb2 import (
    ClusterResourceAttributes,
    ExecutionClusterLabel,
    ExecutionQueueAttributes,
    MatchingAttributes,
    PluginOverride,
    PluginOverrides,
    TaskResourceAttributes,
    TaskResourceSpec,
    WorkflowExecutionConfig,
)
from flyteidl.core.execution_pb2 import QualityOfService, QualityOfServiceSpec
from flyteidl.service.admin_pb2_grpc import AdminServiceStub
from google.protobuf.duration_pb2 import Duration

PROJECT, PROJECT_DOMAIN, WORKFLOW = "Project", "ProjectDomain", "Workflow"
LEVELS = (PROJECT, PROJECT_DOMAIN, WORKFLOW)
_PARTS = {PROJECT: ("project",), PROJECT_DOMAIN: ("project", "domain"), WORKFLOW: ("project", "domain", "workflow")}
_MODULES: dict[str, Any] = {PROJECT: of_project, PROJECT_DOMAIN: of_domain, WORKFLOW: of_workflow}


def attributes(kind: str, mark: int) -> MatchingAttributes:
    """Return attributes of a kind that differ for each `mark` (1 or more)."""
    text = f"m{mark}"
    return {
        "TASK_RESOURCE": MatchingAttributes(
            task_resource_attributes=TaskResourceAttributes(
                defaults=TaskResourceSpec(cpu=f"{mark}00m"), limits=TaskResourceSpec(memory=f"{mark}Gi")
            )
        ),
        "CLUSTER_RESOURCE": MatchingAttributes(
            cluster_resource_attributes=ClusterResourceAttributes(attributes={"quota": text})
        ),
        "EXECUTION_QUEUE": MatchingAttributes(execution_queue_attributes=ExecutionQueueAttributes(tags=[text])),
        "EXECUTION_CLUSTER_LABEL": MatchingAttributes(execution_cluster_label=ExecutionClusterLabel(value=text)),
        "QUALITY_OF_SERVICE_SPECIFICATION": MatchingAttributes(
            quality_of_service=QualityOfService(spec=QualityOfServiceSpec(queueing_budget=Duration(seconds=mark)))
        ),
        "PLUGIN_OVERRIDE": MatchingAttributes(plugin_overrides=overrides(python=text)),
        "WORKFLOW_EXECUTION_CONFIG": MatchingAttributes(
            workflow_execution_config=WorkflowExecutionConfig(max_parallelism=mark)
        ),
        "CLUSTER_ASSIGNMENT": MatchingAttributes(cluster_assignment=ClusterAssignment(cluster_pool_name=text)),
    }[kind]


def overrides(**plugins: str) -> PluginOverrides:
    """Return a plugin for each of the task types."""
    return PluginOverrides(
        overrides=[PluginOverride(task_type=task_type, plugin_id=[plugin]) for task_type, plugin in plugins.items()]
    )


def scoped(level: str, scope: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of a scope, such as `("project", "domain")`, as many as the level has."""
    return dict(zip(_PARTS[level], scope, strict=False))


def request(verb: str, level: str, **fields: Any) -> Any:
    """Return a request of an RPC: `request("Get", WORKFLOW, project="p", ...)`."""
    return getattr(_MODULES[level], f"{level}Attributes{verb}Request")(**fields)


async def put(admin: AdminServiceStub, level: str, scope: tuple[str, ...], given: MatchingAttributes) -> None:
    """Set attributes."""
    message = getattr(_MODULES[level], f"{level}Attributes")(**scoped(level, scope), matching_attributes=given)
    await getattr(admin, f"Update{level}Attributes")(request("Update", level, attributes=message))


async def get(admin: AdminServiceStub, level: str, scope: tuple[str, ...], kind: str) -> Any:
    """Return attributes with the scope they were set for, as a level's Get RPC does."""
    message = request("Get", level, **scoped(level, scope), resource_type=kind)
    return (await getattr(admin, f"Get{level}Attributes")(message)).attributes


async def delete(admin: AdminServiceStub, level: str, scope: tuple[str, ...], kind: str) -> None:
    """Delete attributes."""
    message = request("Delete", level, **scoped(level, scope), resource_type=kind)
    await getattr(admin, f"Delete{level}Attributes")(message)
