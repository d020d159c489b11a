"""Files and folders of raw containers, which are copied from the object store and to it, and from nowhere else.

The URI of a blob and the prefix of raw outputs are values of a launch. So what they name on this machine is used only
if it is in the folder of a `file://` store, whose objects are copied as files.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from flyteidl.core.literals_pb2 import Blob
from flyteidl.core.types_pb2 import BlobType

from deploy.sandbox.engine.tasks.local_paths import FILE_SCHEME, as_path
from deploy.sandbox.engine.tasks.plain_files import NotPlain, copy_plain, copy_plain_folder, write_plain
from services.kit.errors import FailedPrecondition, InvalidArgument, NotFound
from services.kit.objects.errors import UnreadableObject
from services.kit.objects.store import ObjectStore


class DataError(Exception):
    """An input that cannot be a file, or an output that is missing or no value of its type."""


def check_raw_output_prefix(objects: ObjectStore, prefix: str) -> None:
    """Raise DataError for a folder of this machine that is not in the store; other stores are the task's own affair."""
    if _is_of_this_machine(prefix) and _names(objects, prefix) is None:
        raise DataError(
            f"the raw output prefix {prefix} is a folder outside of this sandbox's object store, {objects.uri()}"
        )


async def fetch(objects: ObjectStore, blob: Blob, target: Path) -> None:
    """Copy a file or folder of the store to `target`, which is not there yet.

    Raises:
        DataError: It is none that the store has.
        Unavailable: The store is down.
    """
    names = _names(objects, blob.uri)
    is_folder = blob.metadata.type.dimensionality == BlobType.MULTIPART
    if names is None and _is_of_this_machine(blob.uri):
        raise DataError(f"{blob.uri} is outside of this sandbox's object store, {objects.uri()}: upload it")
    if names is None and is_folder:
        raise DataError(f"{blob.uri} is a folder of another store: only those of this machine's store can be copied")
    try:
        if names is None:
            data = await objects.get(blob.uri)
            await asyncio.to_thread(target.write_bytes, data)
        else:
            copy = copy_plain_folder if is_folder else copy_plain
            await asyncio.to_thread(copy, _folder(objects), names, target)
    except (NotPlain, NotFound, InvalidArgument, UnreadableObject) as error:
        raise DataError(f"{blob.uri} cannot be read: {error}") from error


async def store(objects: ObjectStore, source: BinaryIO, uri: str) -> None:
    """Store a file at a URI or path of the store.

    Raises:
        DataError: No object of the store can be there.
        Unavailable: The store is down.
    """
    names = _names(objects, uri)
    if names is None and _is_of_this_machine(uri):
        raise DataError(f"{uri} is outside of this sandbox's object store, {objects.uri()}")
    try:
        if names is None:
            await objects.put(uri, await asyncio.to_thread(source.read))
        else:
            await objects.check_writable_path(objects.uri(*names))
            await asyncio.to_thread(write_plain, _folder(objects), names, source)
    except (NotPlain, InvalidArgument, FailedPrecondition) as error:
        raise DataError(f"no file can be stored at {uri}: {error}") from error


def _folder(objects: ObjectStore) -> Path:
    return Path(os.path.normpath(as_path(objects.uri())))


def _names(objects: ObjectStore, uri: str) -> tuple[str, ...] | None:
    """Return the names that lead to `uri`, a URI or a path, from the folder of a `file://` store; None for others."""
    path = Path(os.path.normpath(as_path(uri)))
    if objects.local and path != _folder(objects):
        with suppress(ValueError):
            return path.relative_to(_folder(objects)).parts
    return None


def _is_of_this_machine(uri: str) -> bool:
    return uri.startswith(FILE_SCHEME) or "://" not in uri
