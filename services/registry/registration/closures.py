"""Compiled workflows in the object store, with the ones read lately in memory.

An object holds an admin.WorkflowClosure with nothing but the compiled workflow; it is written before the row that
points to it. Its place follows from its content, so that writing it twice is writing it once, and whoever loses a race
over a version leaves the winner's object alone.
"""

from cachetools import LRUCache
from flyteidl.admin.workflow_pb2 import WorkflowClosure
from flyteidl.core.compiler_pb2 import CompiledWorkflowClosure
from flyteidl.core.identifier_pb2 import Identifier

from services.kit.errors import Internal, InvalidArgument, NotFound
from services.kit.objects.store import ObjectStore


class ClosureStore:
    """Closures below `prefix`; keeps up to `capacity` bytes of them in memory."""

    def __init__(self, objects: ObjectStore, prefix: str, capacity: int) -> None:
        self._objects = objects
        self._prefix = prefix
        self._kept: LRUCache[str, bytes] = LRUCache(capacity, len)

    async def put(self, workflow: Identifier, digest: bytes, closure: bytes) -> str:
        """Write a closure; answers its URI. Raises Unavailable."""
        # Names and versions may hold anything and be long; the digest covers them.
        uri = self._objects.uri(self._prefix, workflow.project, workflow.domain, digest.hex())
        await self._objects.put(uri, closure)
        return uri

    async def get(self, uri: str) -> bytes:
        """Read a closure; raises Unavailable, Internal when the object is gone."""
        kept = self._kept.get(uri)
        if kept is not None:
            return kept
        try:
            closure = await self._objects.get(uri)
        except (NotFound, InvalidArgument) as error:  # gone, or in a store that is not this one
            # Not the caller's NotFound: the workflow is registered.
            raise Internal(f"Unable to read WorkflowClosure from location {uri} : {error.message}") from error
        if len(closure) <= self._kept.maxsize:
            self._kept[uri] = closure
        return closure


def closure_bytes(compiled: CompiledWorkflowClosure) -> bytes:
    """Return the object's content; always the same bytes for the same workflow."""
    return WorkflowClosure(compiled_workflow=compiled).SerializeToString(deterministic=True)
