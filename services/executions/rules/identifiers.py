"""Identifiers in requests."""

from flyteidl.core.identifier_pb2 import ResourceType, TaskExecutionIdentifier

from services.contracts.identifiers import check_task_execution_identifier


def check_task_execution_id(identifier: TaskExecutionIdentifier | None) -> None:
    """Raise InvalidArgument unless `identifier` is complete (common.md#task-execution-identifiers).

    REST has no field for the type of the task id, so an unspecified one is set to TASK.
    """
    if (
        identifier is not None
        and identifier.HasField("task_id")
        and identifier.task_id.resource_type == ResourceType.UNSPECIFIED
    ):
        identifier.task_id.resource_type = ResourceType.TASK
    check_task_execution_identifier(identifier)
