"""The files of a file:// object store.

An upload becomes visible as a whole, by a hard link that fails when the path is in use: the first of concurrent uploads
decides the content. All functions block; `objects.store` calls them in threads.
"""

import errno
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
from services.kit.objects.errors import UnreadableObject, check_object_size

# A file that is there for as long as the store is. Without it, the folder is the mount point of a store that is not
# mounted, or was made by another program.
_MARKER = ".flyteplane-store"
# The folder of uploads under way: inside the store, as a hard link cannot cross file systems.
_UPLOADS = ".uploads"
# The folder of the digests of uploads: files have no metadata of their own.
_DIGESTS = ".content-md5"
# The longest name in a file system.
_MOST_NAME_BYTES = 255
# A file of an upload that is unchanged for this long belongs to a process that was killed: uploads of which nothing
# arrives end after a minute at most.
_STALE_SECONDS = 3600
_MD5_BYTES = 16
# Bytes per read while a file is compared, or its digest computed.
_READ_BYTES = 1024 * 1024
# Errors for names that no file can have, as opposed to a failing store.
_IMPOSSIBLE_NAMES = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


class LocalFiles:
    """The files in `folder`, by relative path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marker = folder / _MARKER
        self._swept = 0.0

    def make(self) -> None:
        """Make the folder and its marker unless they are there; nothing else may make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._marker.touch()

    def check_present(self) -> None:
        """Raise Unavailable unless the folder is there, with its marker."""
        if os.access(self._marker, os.F_OK):
            return
        if os.access(self._folder, os.R_OK | os.X_OK):
            raise Unavailable(f"the folder of the object store has no file {_MARKER}: the store is not there")
        raise Unavailable("the folder of the object store cannot be read")

    def check_path(self, path: str) -> None:
        """Raise InvalidArgument for a path that no file system can have."""
        if any(len(name.encode(errors="surrogatepass")) > _MOST_NAME_BYTES for name in path.split("/")):
            raise InvalidArgument(f"invalid uri: a part of the path has more than {_MOST_NAME_BYTES} bytes")

    def check_writable_path(self, path: str) -> None:
        """Check that a file can be written at `path`.

        Raises:
            FailedPrecondition: a folder is at `path`, or a file where `path` needs a folder.
            Unavailable: the store is not there.
        """
        self.check_present()
        with self._translated(path):
            if (self._folder / path).is_dir():
                raise FailedPrecondition(f"a folder is at [{path}], so no file can be")
            for folder in Path(path).parents:
                if (self._folder / folder).exists() and not (self._folder / folder).is_dir():
                    raise FailedPrecondition(f"a file is at [{folder}], so nothing can be below it")

    def open(self, path: str) -> tuple[FileIO, int]:
        """Return an open file and its size in bytes. Raise NotFound, UnreadableObject or Unavailable."""
        with self._translated(path):
            file = FileIO(self._folder / path, opener=_open_nonblocking)
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode):
                return file, status.st_size
            file.close()
        raise NotFound(f"object not found: {path} is no file")

    def size(self, path: str) -> int:
        """Return the size of a file in bytes. Raise NotFound or Unavailable."""
        with self._translated(path):
            status = (self._folder / path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"object not found: {path} is no file")
        return status.st_size

    def read(self, path: str, most_bytes: int | None = None) -> bytes:
        """Return a file's content. Raise LargeObject above `most_bytes`, NotFound, UnreadableObject or Unavailable."""
        file, size = self.open(path)
        with file, self._translated(path):
            check_object_size(path, size, most_bytes)
            return file.read()

    def md5(self, path: str) -> bytes:
        """Return the MD5 digest of a file, stored at its upload or computed. Raise NotFound or Unavailable."""
        with suppress(OSError):
            stored = self._digest_path(path).read_bytes()
            if len(stored) == _MD5_BYTES:  # less while it is being written
                return stored
        file, _ = self.open(path)
        digest = hashlib.md5(usedforsecurity=False)
        with file, self._translated(path):
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
        return digest.digest()

    def upload(self) -> "Upload":
        """Begin an upload. Raise Unavailable."""
        folder = self._folder / _UPLOADS
        self.check_present()
        with self._translated(_UPLOADS):
            folder.mkdir(exist_ok=True)
            self._delete_stale(folder)
            return Upload(self, folder / secrets.token_hex(16))

    def _delete_stale(self, folder: Path) -> None:
        oldest = time.time() - _STALE_SECONDS
        if self._swept > oldest:
            return
        self._swept = time.time()
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def link(self, source: Path, path: str, md5: bytes) -> None:
        """Link the file `source` at `path`, unless another object is there. Raise as `Upload.publish` does."""
        target = self._folder / path
        self.check_present()
        with self._translated(path):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, target)
            except (FileExistsError, NotADirectoryError) as error:
                self.check_writable_path(path)
                if not target.is_file() or not _equal(source, target):
                    raise AlreadyExists(f"file already exists at location [{path}] with other content") from error
        with suppress(OSError):  # it can be computed again
            self._digest_path(path).parent.mkdir(parents=True, exist_ok=True)
            self._digest_path(path).write_bytes(md5)

    def _digest_path(self, path: str) -> Path:
        return self._folder / _DIGESTS / path

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.check_present()
            if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                raise NotFound(f"object not found: {path}") from error
            if error.errno in _IMPOSSIBLE_NAMES:
                raise NotFound(f"object not found: no file can be at {path}") from error
            if isinstance(error, PermissionError):
                raise UnreadableObject(f"the object store does not give {path}") from error
            raise Unavailable(f"the object store fails at {path}: {error.strerror}") from error


class Upload:
    """A file that is being written: visible to readers after `publish`, deleted by `discard` if not published.

    The thread of a cancelled call keeps running, so a lock keeps `discard` from interfering with it.
    """

    def __init__(self, files: LocalFiles, path: Path) -> None:
        self._files = files
        self._path = path
        self._file = path.open("xb", buffering=0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self._lock = Lock()
        self._size = 0

    @property
    def size(self) -> int:
        """How many bytes have been written."""
        return self._size

    def write(self, piece: bytes, most_bytes: int) -> None:
        """Append a piece. Raise ResourceExhausted above `most_bytes`, Unavailable on a full disk."""
        with self._lock:
            self._size += len(piece)
            if self._size > most_bytes:
                raise too_large(most_bytes)
            self._digest.update(piece)
            try:
                remaining = memoryview(piece)
                while remaining:
                    remaining = remaining[self._file.write(remaining) :]
            except (OSError, ValueError) as error:  # ValueError: discarded meanwhile
                raise Unavailable("the object store does not take the upload") from error

    def publish(self, path: str, expected_md5: bytes) -> None:
        """Make the upload visible at `path`; the same content again changes nothing.

        Args:
            path: path of the object in the store.
            expected_md5: digest that the URL was signed for; empty for any.

        Raises:
            InvalidArgument: the upload has another digest.
            AlreadyExists: an object with other content is at the path.
            FailedPrecondition: a folder is at the path, or a file where the path needs a folder.
            Unavailable: the disk fails or is full.
        """
        with self._lock:
            md5 = self._digest.digest()
            if expected_md5 and md5 != expected_md5:
                raise InvalidArgument("the upload does not have the MD5 digest it was signed for")
            try:
                # Before it is visible: after a crash, a name without its content would block the path permanently.
                os.fsync(self._file.fileno())
            except (OSError, ValueError) as error:
                raise Unavailable("the object store does not take the upload") from error
            self._files.link(self._path, path, md5)

    def discard(self) -> None:
        """Delete the file of the upload; a published object stays."""
        with self._lock:
            self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _open_nonblocking(path: str, flags: int) -> int:
    # The path may be a pipe, whose open would block without a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _equal(path: Path, other: Path) -> bool:
    if path.stat().st_size != other.stat().st_size:
        return False
    with path.open("rb") as file, other.open("rb") as other_file:
        while piece := file.read(_READ_BYTES):
            if piece != other_file.read(_READ_BYTES):
                return False
    return True


def too_large(most_bytes: int) -> ResourceExhausted:
    """Return the error for an upload above the limit."""
    return ResourceExhausted(f"the upload is too large: it may have {most_bytes} bytes")
