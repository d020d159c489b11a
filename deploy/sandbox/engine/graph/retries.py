"""Errors of attempts that took too long, and of the last attempt, as flytepropeller words them."""

from datetime import timedelta

from flyteidl.core.execution_pb2 import ExecutionError

from deploy.sandbox.engine.graph.events import go_duration


def timeout_error(timeout: timedelta) -> ExecutionError:
    """Return the error of an attempt that took longer than `timeout`; another one may follow."""
    message = f"task execution timeout [{go_duration(timeout)}] expired"
    return ExecutionError(code="TimeoutExpired", message=message, kind=ExecutionError.USER)


def exhausted(error: ExecutionError, current: int, most: int) -> ExecutionError:
    """Return the error of a node whose last attempt ended with `error`.

    Args:
        error: Of the attempt.
        current: The attempts so far of the kind that the error counts towards.
        most: How many there may be.
    """
    kind = ExecutionError.ErrorKind.Name(error.kind)
    return ExecutionError(
        code=f"RetriesExhausted|{error.code}",
        message=f"[{current}/{most}] currentAttempt done. Last Error: {kind}::{error.message}",
        kind=ExecutionError.USER,
    )
