"""Regular files below a folder, opened without following a symbolic link and without waiting for a pipe.

Tasks may put anything where the engine reads a file of theirs: a link elsewhere, or a pipe that no process writes.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

# The longest name in a file system.
_MOST_NAME_BYTES: Final = 255
# Deeper folders are not copied: each level is an open descriptor.
_MOST_DEPTH: Final = 64
_COPY_BYTES: Final = 1024 * 1024
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening something gives that is not there, or is no regular file that this process may read.
_NOT_PLAIN: Final = frozenset(
    (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EISDIR, errno.ENXIO)
)


class NotPlain(Exception):
    """What is at a path is no regular file, or folder of regular files, or nothing is."""


def is_file_name(name: str) -> bool:
    """Return whether a file of a folder can have this name."""
    return "/" not in name and "\0" not in name and name not in {"", ".", ".."} and _fits(name)


def _fits(name: str) -> bool:
    return len(name.encode(errors="surrogateescape")) <= _MOST_NAME_BYTES


def open_plain(base: Path, names: Sequence[str]) -> BinaryIO:
    """Return the file `names` below the folder `base`, open for reading; raise NotPlain."""
    with _open_folder(base, names[:-1]) as folder:
        return _open_file(folder, names[-1])


def copy_plain(base: Path, names: Sequence[str], target: Path) -> None:
    """Copy the file `names` below `base` to `target`, which is not there yet; raise NotPlain."""
    with _open_folder(base, names[:-1]) as folder:
        _copy_file(folder, names[-1], target)


def copy_plain_folder(base: Path, names: Sequence[str], target: Path) -> None:
    """Copy the folder `names` below `base` to `target`, which is not there yet; raise NotPlain."""
    with _open_folder(base, names) as folder:
        _copy_folder(folder, target, depth=0)


def write_plain(base: Path, names: Sequence[str], source: BinaryIO) -> None:
    """Write what is left of `source` to the file `names` below `base`, and make its folders; raise NotPlain."""
    with (
        _open_folder(base, names[:-1], make=True) as folder,
        os.fdopen(_open_regular(folder, names[-1], _NEW_FILE), "wb") as target,
    ):
        shutil.copyfileobj(source, target, _COPY_BYTES)


@contextmanager
def _open_folder(base: Path, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    try:
        folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotPlain(f"{base} is not there") from error
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=folder)
            inner = _open(folder, name, _FOLDER)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _open(folder: int, name: str, flags: int) -> int:
    if not is_file_name(name):
        raise NotPlain(f"no file can be named {name[:_MOST_NAME_BYTES]!r}")
    try:
        return os.open(name, flags, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_PLAIN:
            raise NotPlain(f"{name}: {error.strerror}") from error
        raise


def _open_regular(folder: int, name: str, flags: int) -> int:
    descriptor = _open(folder, name, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotPlain(f"{name} is no regular file")
    return descriptor


def _open_file(folder: int, name: str) -> BinaryIO:
    return os.fdopen(_open_regular(folder, name, _FILE), "rb")


def _copy_file(folder: int, name: str, target: Path) -> None:
    with _open_file(folder, name) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)


def _copy_folder(folder: int, target: Path, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise NotPlain(f"{target.name} is below more than {_MOST_DEPTH} folders")
    target.mkdir(mode=0o700)
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            inner = _open(folder, name, _FOLDER)
            try:
                _copy_folder(inner, target / name, depth + 1)
            finally:
                os.close(inner)
        else:
            _copy_file(folder, name, target / name)
