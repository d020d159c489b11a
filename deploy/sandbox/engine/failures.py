"""What an error outside of the state machine means for a run: it passes, or the execution fails with a sentence."""

import errno

import grpc
from flyteidl.core.execution_pb2 import ExecutionError

from deploy.sandbox.engine.graph.failure import engine_failed
from deploy.sandbox.engine.refusals import Refusal, refusal
from services.kit.errors import ServiceError, Unavailable

# No space on the disk, or none of the user's quota; too many open files or processes; no memory.
_PASSING = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.EIO, errno.EROFS)
)


def passes(error: BaseException) -> bool:
    """Return whether it is worth to try again: the control plane or the object store is away, or the disk is full."""
    if isinstance(error, grpc.aio.AioRpcError):
        return refusal(error) is Refusal.NOT_NOW
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, Unavailable)


def failure_of(error: BaseException) -> ExecutionError:
    """Return the error of an execution that cannot go on."""
    if isinstance(error, grpc.aio.AioRpcError):
        message = f"the control plane refuses what the execution needs: {error.details()} ({error.code().name})"
        return ExecutionError(code="CallRefused", message=message, kind=ExecutionError.SYSTEM)
    if isinstance(error, ServiceError):
        message = f"the execution cannot go on: {error.message}"
        return ExecutionError(code="DataUnavailable", message=message, kind=ExecutionError.SYSTEM)
    return engine_failed(error)
