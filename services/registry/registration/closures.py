"""Compiled workflows in the object store, with a cache of those that were read recently.

An object contains an admin.WorkflowClosure with the compiled workflow only; it is written before the row that refers to
it. Its key follows from its content: writing it twice changes nothing, and of two racing registrations the loser does
not overwrite the winner's object.
"""

from cachetools import LRUCache
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier

from services.kit.errors import Internal, InvalidArgument, NotFound
from services.kit.objects.store import ObjectStore
from services.kit.protobuf.wire import message_field


class ClosureStore:
    """Closures in the object store below `prefix`, with up to `capacity` bytes of them in memory."""

    def __init__(self, objects: ObjectStore, prefix: str, capacity: int) -> None:
        self._objects = objects
        self._prefix = prefix
        self._cache: LRUCache[str, bytes] = LRUCache(capacity, len)

    async def put(self, workflow: Identifier, digest: bytes, closure: bytes) -> str:
        """Write a closure and return its URI; raise Unavailable."""
        # Names and versions may be long and contain any characters; the digest covers them.
        uri = self._objects.uri(self._prefix, workflow.project, workflow.domain, digest.hex())
        await self._objects.put(uri, closure)
        return uri

    async def get(self, uri: str) -> bytes:
        """Read a closure; raise Unavailable, or Internal when the object is missing."""
        cached = self._cache.get(uri)
        if cached is not None:
            return cached
        try:
            closure = await self._objects.get(uri)
        except (NotFound, InvalidArgument) as error:  # missing, or in no allowed bucket
            # Not NotFound for the caller: the workflow is registered.
            raise Internal(f"Unable to read WorkflowClosure from location {uri} : {error.message}") from error
        if len(closure) <= self._cache.maxsize:
            self._cache[uri] = closure
        return closure


def closure_bytes(compiled: CompiledWorkflowClosure) -> bytes:
    """Return the object's content; the same bytes for the same workflow."""
    content = compiled.SerializeToString(deterministic=True)
    return message_field(WorkflowClosure.COMPILED_WORKFLOW_FIELD_NUMBER, content)
