"""Compilation of what a dynamic task returned (engine.md#dynamic-nodes)."""

import hashlib
from collections.abc import Sequence
from typing import Final

from flyteidl.admin.launch_plan_pb2 import LaunchPlan
from flyteidl.core.compiler_pb2 import CompiledTask, CompiledWorkflowClosure
from flyteidl.core.dynamic_job_pb2 import DynamicJobSpec
from flyteidl.core.execution_pb2 import ExecutionError
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.interface_pb2 import TypedInterface
from flyteidl.core.tasks_pb2 import TaskTemplate
from flyteidl.core.workflow_pb2 import WorkflowTemplate

from services.registry.compiler import CompilationFailed, compile_task, compile_workflow, requirements

# As many characters as flytepropeller's random versions have.
_VERSION_LENGTH: Final = 10


class DynamicFailed(Exception):  # same
    """What a dynamic task returned is no workflow."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.error = ExecutionError(code="DynamicWorkflowBuildFailed", message=message, kind=ExecutionError.USER)


def dynamic_id(project: str, domain: str, spec_node_id: str, made_by: str) -> Identifier:
    """Return the id of a dynamic workflow; `made_by` names the attempt that made it, in all executions."""
    return Identifier(
        resource_type=ResourceType.WORKFLOW,
        project=project,
        domain=domain,
        name=f"dynamic_{spec_node_id}",
        version=hashlib.sha256(made_by.encode()).hexdigest()[:_VERSION_LENGTH],
    )


def dynamic_template(spec: DynamicJobSpec, identifier: Identifier, task: TaskTemplate) -> WorkflowTemplate:
    """Return the workflow of a dynamic job spec: no inputs, and the outputs of the task that returned it."""
    return WorkflowTemplate(
        id=identifier,
        nodes=spec.nodes,
        outputs=spec.outputs,
        interface=TypedInterface(outputs=task.interface.outputs),
    )


def required_launch_plans(template: WorkflowTemplate, spec: DynamicJobSpec) -> Sequence[Identifier]:
    """Return the launch plans that a dynamic workflow refers to.

    Raises:
        DynamicFailed: Sub-workflows have no id or that of another, or contain themselves.
    """
    try:
        return requirements(template, spec.subworkflows).launch_plans
    except CompilationFailed as failed:
        raise DynamicFailed(f"failed to Get requirements for subworkflows: {failed}") from failed


def compiled(
    template: WorkflowTemplate, spec: DynamicJobSpec, task: TaskTemplate, launch_plans: Sequence[LaunchPlan]
) -> CompiledWorkflowClosure:
    """Return the compiled dynamic workflow.

    Args:
        template: Of the workflow.
        spec: What the task returned.
        task: The task. The tasks that it returned inherit its container's config.
        launch_plans: Those that `required_launch_plans` returned and that exist.

    Raises:
        DynamicFailed: It cannot be compiled.
    """
    try:
        return compile_workflow(template, spec.subworkflows, _tasks(spec, task), launch_plans)
    except CompilationFailed as failed:
        raise DynamicFailed(f"malformed dynamic workflow: {failed}") from failed


def _tasks(spec: DynamicJobSpec, task: TaskTemplate) -> list[CompiledTask]:
    tasks = []
    for each in spec.tasks:
        template = TaskTemplate()
        template.CopyFrom(each)
        if template.HasField("container") and task.HasField("container"):
            template.container.config.extend(task.container.config)
        try:
            tasks.append(compile_task(template))
        except CompilationFailed as failed:
            raise DynamicFailed(f"failed to compile dynamic tasks: {failed}") from failed
    return tasks
