"""The cache of task outputs, in the object store, and reservations for tasks whose cache is serializable.

An entry is known by what Flyte's catalog knows it by: project, domain and name of the task (not its version), the cache
version, the interface, and the inputs. A literal that has a hash counts by it, instead of its value.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core.catalog_pb2 import CatalogArtifactTag, CatalogMetadata
from flyteidl.core.identifier_pb2 import Identifier, ResourceType, TaskExecutionIdentifier
from flyteidl.core.interface_pb2 import TypedInterface, VariableMap
from flyteidl.core.literals_pb2 import Literal, LiteralMap
from google.protobuf.message import DecodeError

from deploy.sandbox.engine.graph.interface import CacheKey
from services.kit.errors import NotFound
from services.kit.objects.store import ObjectStore

_FOLDER = ("metadata", "cache")
_OUTPUTS, _METADATA = "outputs.pb", "metadata.pb"
_POLL_SECONDS = 0.2
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Hit:
    """Outputs from the cache, and where they come from."""

    outputs: LiteralMap
    metadata: CatalogMetadata


class TaskCache:
    """The cache of one sandbox.

    Args:
        objects: the object store.
        reservations: a folder with a file for each reservation, so that they outlast a restart.
    """

    def __init__(self, objects: ObjectStore, reservations: Path) -> None:
        self._objects = objects
        self._reservations = reservations

    async def look_up(self, key: CacheKey) -> Hit | None:
        """Return what the cache has; raise Unavailable when the object store is down."""
        folder = self._folder(key)
        try:
            # The metadata is written last.
            metadata = CatalogMetadata.FromString(await self._objects.get(f"{folder}/{_METADATA}"))
            return Hit(LiteralMap.FromString(await self._objects.get(f"{folder}/{_OUTPUTS}")), metadata)
        except (NotFound, DecodeError):
            return None

    async def look_up_or_reserve(self, key: CacheKey, owner: str) -> Hit | None:
        """Return what the cache has; None once `owner` has the reservation of the key. Raise Unavailable."""
        while True:
            hit = await self.look_up(key)
            if hit is not None or self._reserve(key, owner):
                return hit
            await asyncio.sleep(_POLL_SECONDS)

    async def store(self, key: CacheKey, outputs: LiteralMap, source: TaskExecutionIdentifier) -> CatalogMetadata:
        """Store outputs, in place of older ones; raise Unavailable."""
        metadata = catalog_metadata(key, source)
        folder = self._folder(key)
        await self._objects.put(f"{folder}/{_OUTPUTS}", outputs.SerializeToString())
        await self._objects.put(f"{folder}/{_METADATA}", metadata.SerializeToString())
        return metadata

    def release(self, key: CacheKey, owner: str) -> None:
        """Release the reservation of the key, if `owner` has it."""
        file = self._reservation(key)
        if _owner(file) == owner:
            file.unlink(missing_ok=True)

    def release_all(self, owner_prefix: str) -> None:
        """Release the reservations of all owners whose names begin with `owner_prefix`."""
        for file in self._reservations.glob("*"):
            if _owner(file).startswith(owner_prefix):
                file.unlink(missing_ok=True)

    def _reserve(self, key: CacheKey, owner: str) -> bool:
        file = self._reservation(key)
        self._reservations.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x") as stream:
                json.dump({"owner": owner, "since": time.time()}, stream)
        except FileExistsError:
            return _owner(file) == owner
        return True

    def _reservation(self, key: CacheKey) -> Path:
        return self._reservations / digest(key)

    def _folder(self, key: CacheKey) -> str:
        task = key.task
        name = hashlib.sha256(task.name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
        return self._objects.uri(*_FOLDER, task.project, task.domain, name, digest(key))


def _owner(file: Path) -> str:
    try:
        owner: str = json.loads(file.read_text())["owner"]
    except (OSError, ValueError):
        return ""
    return owner


def digest(key: CacheKey) -> str:
    """Return the hexadecimal digest by which an entry is known."""
    task = key.task
    parts = (
        *(task.project.encode(), task.domain.encode(), task.name.encode(), key.cache_version.encode()),
        _interface(key.interface),
        _values(key.inputs),
    )
    result = hashlib.sha256()
    for part in parts:
        result.update(len(part).to_bytes(8, "big") + part)
    return result.hexdigest()


def catalog_metadata(key: CacheKey, source: TaskExecutionIdentifier) -> CatalogMetadata:
    """Return what the event of a cache hit says about the entry."""
    task = key.task
    signature = hashlib.sha256(_interface(key.interface)).hexdigest()[:_DIGEST_CHARACTERS]
    dataset = Identifier(
        resource_type=ResourceType.DATASET,
        project=task.project,
        domain=task.domain,
        name=f"flyte_task-{task.name}",
        version=f"{key.cache_version}-{signature}",
    )
    tag = f"flyte_cached-{digest(key)[:_DIGEST_CHARACTERS]}"
    artifact = CatalogArtifactTag(artifact_id=digest(key)[: 2 * _DIGEST_CHARACTERS], name=tag)
    return CatalogMetadata(dataset_id=dataset, artifact_tag=artifact, source_task_execution=source)


def _interface(interface: TypedInterface) -> bytes:
    """Return what of an interface counts: names and types of its variables, without descriptions."""
    stripped = TypedInterface(inputs=_stripped(interface.inputs), outputs=_stripped(interface.outputs))
    return stripped.SerializeToString(deterministic=True)


def _stripped(variables: VariableMap) -> VariableMap:
    result = VariableMap()
    for name, variable in variables.variables.items():
        result.variables[name].type.CopyFrom(variable.type)
        result.variables[name].type.ClearField("metadata")
    return result


def _values(values: LiteralMap) -> bytes:
    return _hashed_map(values.literals).SerializeToString(deterministic=True)


def _hashed_map(literals: Mapping[str, Literal]) -> LiteralMap:
    return LiteralMap(literals={name: _hashed(literal) for name, literal in literals.items()})


def _hashed(literal: Literal) -> Literal:
    """Return `literal` with hashes in place of the values that have one, and without metadata."""
    if literal.hash:
        return Literal(hash=literal.hash)
    kind = literal.WhichOneof("value")
    result = Literal()
    if kind == "collection":
        result.collection.literals.extend(map(_hashed, literal.collection.literals))
        result.collection.SetInParent()
    elif kind == "map":
        result.map.CopyFrom(_hashed_map(literal.map.literals))
    else:
        result.CopyFrom(literal)
        result.ClearField("metadata")
    return result
