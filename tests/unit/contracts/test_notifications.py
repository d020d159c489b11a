"""Notifications (executions.md#notification-rules) and terminal phases."""

from typing import Any

import pytest
from flyteidl.admin.common_pb2 import Notification
from flyteidl.core.execution_pb2 import NodeExecution, TaskExecution, WorkflowExecution
from google.protobuf.json_format import ParseDict

from services.contracts.notifications import MAX_NOTIFICATIONS, check_notifications
from services.contracts.phases import NODE_TERMINAL, TASK_TERMINAL, WORKFLOW_TERMINAL
from services.kit.errors import InvalidArgument

TO = {"recipientsEmail": ["a"]}


@pytest.mark.parametrize("kind", ["email", "slack", "pagerDuty"])
@pytest.mark.parametrize("phases", [[], ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]])
def test_recipients_and_terminal_phases_pass(kind: str, phases: list[str]) -> None:
    check_notifications([ParseDict({kind: TO, "phases": phases}, Notification())])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "invalid value for notification type"),
    ({"email": {}}, "missing recipients"),
    ({"slack": {"recipientsEmail": ["a", ""]}}, "missing recipient"),
    ({"pagerDuty": TO, "phases": ["SUCCEEDED", "RUNNING"]}, "invalid value for phase"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG, ids=[message for _, message in WRONG])
def test_list_too_large_to_send_is_resource_exhausted(fields: dict[str, Any], message: str) -> None:
    right = ParseDict({"email": TO}, Notification())
    with pytest.raises(InvalidArgument, match=f"^{message}$"):
        check_notifications([right, ParseDict(fields, Notification())])


def test_notifications_above_the_limit_are_invalid_argument() -> None:
    right = ParseDict({"email": TO}, Notification())
    check_notifications([right] * MAX_NOTIFICATIONS)
    with pytest.raises(InvalidArgument, match=r"^notifications cannot exceed 1000 entries$"):
        check_notifications([right] * (MAX_NOTIFICATIONS + 1))


def test_terminal_phases() -> None:
    assert {WorkflowExecution.Phase.Name(phase) for phase in WORKFLOW_TERMINAL} == {
        "SUCCEEDED",
        "FAILED",
        "TIMED_OUT",
        "ABORTED",
    }
    assert {NodeExecution.Phase.Name(phase) for phase in NODE_TERMINAL} == {
        "SUCCEEDED",
        "FAILED",
        "TIMED_OUT",
        "ABORTED",
        "SKIPPED",
        "RECOVERED",
    }
    assert {TaskExecution.Phase.Name(phase) for phase in TASK_TERMINAL} == {"SUCCEEDED", "FAILED", "ABORTED"}
