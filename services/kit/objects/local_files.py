"""The files of a file:// object store: read in small pieces, and uploaded once.

An upload becomes visible as a whole, by a hard link that fails when something is there already: whoever is first
decides what the object is, also among uploads that race. Everything here blocks; `objects` calls it in a thread.
"""

import errno
import filecmp
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Lock

from services.kit.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

# Uploads under way, inside the store because a hard link stays within a file system.
_UPLOADS = ".uploads"
# The digest of each upload lies beside the store's objects, as files have no metadata of their own.
_DIGESTS = ".content-md5"
# The longest name that file systems take.
_MOST_NAME_BYTES = 255
# An upload that rests this long was left behind by a process that was killed: the gateway ends one after 300 s.
_STALE_SECONDS = 3600
_MD5_BYTES = 16
# Read at once by what works out a digest.
_HASHED_BYTES = 1024 * 1024
# Of names that no file can have, as opposed to a store that is ill.
_IMPOSSIBLE = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


class Unreadable(Unavailable):
    """The store answers, but does not give this one object."""


class LargeObject(ResourceExhausted):
    """The object has more bytes than its reader takes."""


class LocalFiles:
    """Files below `folder`, by their path in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._swept = 0.0

    def check_path(self, path: str) -> None:
        """Raise InvalidArgument for a path that no file system holds."""
        if any(len(name.encode(errors="surrogatepass")) > _MOST_NAME_BYTES for name in path.split("/")):
            raise InvalidArgument(f"invalid uri: a part of the path has more than {_MOST_NAME_BYTES} bytes")

    def check_room(self, path: str) -> None:
        """Raise FailedPrecondition where a file is in place of a folder of `path`, or a folder in place of its file."""
        with self._translated(path):
            if (self._folder / path).is_dir():
                raise FailedPrecondition(f"a folder is at [{path}], so no file can be")
            for folder in Path(path).parents:
                if (self._folder / folder).exists() and not (self._folder / folder).is_dir():
                    raise FailedPrecondition(f"a file is at [{folder}], so nothing can be below it")

    def open(self, path: str) -> tuple[FileIO, int]:
        """Open a file; returns its size, too. Raises NotFound, Unreadable, Unavailable."""
        with self._translated(path):
            file = FileIO(self._folder / path, opener=_open_at_once)
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode):
                return file, found.st_size
            file.close()
        raise NotFound(f"object not found: {path} is no file")

    def size(self, path: str) -> int:
        """Return the bytes of a file. Raises NotFound, Unavailable."""
        with self._translated(path):
            found = (self._folder / path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"object not found: {path} is no file")
        return found.st_size

    def read(self, path: str, most_bytes: int | None = None) -> bytes:
        """Read a whole file. Raises LargeObject for more than `most_bytes`, NotFound, Unreadable, Unavailable."""
        file, size = self.open(path)
        with file, self._translated(path):
            check_size(path, size, most_bytes)
            return file.read()

    def md5(self, path: str) -> bytes:
        """Return the digest of a file, as kept at its upload or worked out. Raises NotFound, Unavailable."""
        with suppress(OSError):
            kept = self._digest(path).read_bytes()
            if len(kept) == _MD5_BYTES:  # less while it is being written
                return kept
        file, _ = self.open(path)
        digest = hashlib.md5(usedforsecurity=False)
        with file, self._translated(path):
            while piece := file.read(_HASHED_BYTES):
                digest.update(piece)
        return digest.digest()

    def upload(self) -> "Upload":
        """Begin an upload. Raises Unavailable."""
        place = self._folder / _UPLOADS
        with self._translated(_UPLOADS):
            place.mkdir(parents=True, exist_ok=True)
            self._sweep(place)
            return Upload(self, place / secrets.token_hex(16))

    def _sweep(self, place: Path) -> None:
        oldest = time.time() - _STALE_SECONDS
        if self._swept > oldest:
            return
        self._swept = time.time()
        for left in place.iterdir():
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < oldest:
                    left.unlink()

    def link(self, source: Path, path: str, md5: bytes) -> None:
        """Make the file `source` the object at `path`, unless another one is there. Raises as `Upload.publish`."""
        target = self._folder / path
        with self._translated(path):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, target)
            except (FileExistsError, NotADirectoryError) as error:
                self.check_room(path)
                if not target.is_file() or not filecmp.cmp(source, target, shallow=False):
                    raise AlreadyExists(f"file already exists at location [{path}] with other content") from error
        with suppress(OSError):  # it can be worked out again
            self._digest(path).parent.mkdir(parents=True, exist_ok=True)
            self._digest(path).write_bytes(md5)

    def _digest(self, path: str) -> Path:
        return self._folder / _DIGESTS / path

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not os.access(self._folder, os.R_OK | os.X_OK):
                raise Unavailable("the folder of the object store cannot be read") from error
            if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                raise NotFound(f"object not found: {path}") from error
            if error.errno in _IMPOSSIBLE:
                raise NotFound(f"object not found: no file can be at {path}") from error
            if isinstance(error, PermissionError):
                raise Unreadable(f"the object store does not give {path}") from error
            raise Unavailable(f"the object store fails at {path}: {error.strerror}") from error


class Upload:
    """A file that is being written: nobody sees it before `publish`, and nothing is left of it after `discard`.

    A call that is cancelled leaves its thread at work, so the two take turns.
    """

    def __init__(self, files: LocalFiles, place: Path) -> None:
        self._files = files
        self._place = place
        self._file = place.open("xb", buffering=0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self._lock = Lock()
        self._size = 0

    def write(self, piece: bytes, most_bytes: int) -> None:
        """Append a piece. Raises ResourceExhausted above `most_bytes`, Unavailable on a disk that is full."""
        with self._lock:
            self._size += len(piece)
            if self._size > most_bytes:
                raise too_large(most_bytes)
            self._digest.update(piece)
            try:
                rest = memoryview(piece)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except (OSError, ValueError) as error:  # ValueError: discarded meanwhile
                raise Unavailable("the object store does not take the upload") from error

    def publish(self, path: str, expected_md5: bytes) -> None:
        """Make it the object at `path`. The same bytes again change nothing.

        Raises InvalidArgument for another digest than `expected_md5` (if any), AlreadyExists for other bytes than are
        there, FailedPrecondition where no file can be, Unavailable.
        """
        with self._lock:
            md5 = self._digest.digest()
            if expected_md5 and md5 != expected_md5:
                raise InvalidArgument("the upload does not have the MD5 digest it was signed for")
            try:
                # Before it is visible: a crash that left the name without the bytes would block the place for good.
                os.fsync(self._file.fileno())
            except (OSError, ValueError) as error:
                raise Unavailable("the object store does not take the upload") from error
            self._files.link(self._place, path, md5)

    def discard(self) -> None:
        """Take away the file as far as it is not published."""
        with self._lock:
            self._file.close()
            with suppress(OSError):
                self._place.unlink(missing_ok=True)


def _open_at_once(path: str, flags: int) -> int:
    # What lies there may be a pipe, for which others would wait.
    return os.open(path, flags | os.O_NONBLOCK)


def check_size(name: str, size: int, most_bytes: int | None) -> None:
    """Raise LargeObject where the object `name` has more than `most_bytes`; None is no limit."""
    if most_bytes is not None and size > most_bytes:
        raise LargeObject(f"the object {name} is too large: it has {size} bytes, of {most_bytes} at most")


def too_large(most_bytes: int) -> ResourceExhausted:
    """Return the failure of an upload above the limit."""
    return ResourceExhausted(f"the upload is too large: it may have {most_bytes} bytes")
