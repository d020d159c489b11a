"""Notifications of launch plans and executions about the end of an execution (executions.md#notification-rules)."""

from collections.abc import Sequence

from flyteidl.admin.common_pb2 import Notification

from services.contracts.phases import WORKFLOW_TERMINAL
from services.kit.errors import InvalidArgument

# Users set a handful.
MAX_NOTIFICATIONS = 1000


def check_notifications(notifications: Sequence[Notification]) -> None:
    """Raise InvalidArgument for more than 1000, or unless each names recipients of one kind and terminal phases only.

    An empty list of phases is allowed. Addresses are not checked.
    """
    if len(notifications) > MAX_NOTIFICATIONS:
        raise InvalidArgument(f"notifications cannot exceed {MAX_NOTIFICATIONS} entries")
    for notification in notifications:
        _check_recipients(notification)
        if any(phase not in WORKFLOW_TERMINAL for phase in notification.phases):
            raise InvalidArgument("invalid value for phase")


def _check_recipients(notification: Notification) -> None:
    kind = notification.WhichOneof("type")
    if kind == "email":
        recipients = notification.email.recipients_email
    elif kind == "slack":
        recipients = notification.slack.recipients_email
    elif kind == "pager_duty":
        recipients = notification.pager_duty.recipients_email
    else:
        raise InvalidArgument("invalid value for notification type")
    if not recipients:
        raise InvalidArgument("missing recipients")
    if not all(recipients):
        raise InvalidArgument("missing recipient")
