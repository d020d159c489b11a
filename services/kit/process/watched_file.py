"""A file that an operator changes while the process runs."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from services.kit.errors import InvalidArgument, ServiceError

log = logging.getLogger(__name__)

# Reading a file of some kilobytes costs some ten microseconds. A comparison of its content notices what times of
# change do not: links that Kubernetes exchanges, and copies that keep their time.
_ROUND_SECONDS = 2.0
# A larger file is a mistake, and is not read every two seconds.
_MOST_BYTES = 4 * 1024 * 1024


class WatchedFile:
    """Passes the text of a file to `use` at first and whenever it has changed.

    Args:
        path: The file.
        use: Takes the text, or raises a ServiceError and leaves everything as it was.
    """

    def __init__(self, path: Path, use: Callable[[str], None]) -> None:
        self._path = path
        self._use = use
        self._seen: bytes | None = None

    def read_first(self) -> None:
        """Read the file; raise InvalidArgument, by which the process does not start, when it cannot be used."""
        content = self._content()
        self._use(_text(content, self._path))
        self._seen = content

    async def run(self) -> None:
        """Read the file every two seconds until cancelled; one that cannot be used changes nothing, and is logged."""
        while True:
            await asyncio.sleep(_ROUND_SECONDS)
            self.read_again()

    def read_again(self) -> None:
        """Use the file if it has changed."""
        try:
            content = self._content()
        except ServiceError as error:
            if self._seen is not None:
                log.error("the previous content stays in force: %s", error.message)  # noqa: TRY400  # it says it all
            self._seen = None
            return
        if content == self._seen:
            return
        self._seen = content
        try:
            self._use(_text(content, self._path))
        except ServiceError as error:
            log.error("the previous content stays in force: %s: %s", self._path, error.message)  # noqa: TRY400  # same
        else:
            log.info("a changed file is in use", extra={"file": str(self._path)})

    def _content(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise InvalidArgument(f"{self._path} cannot be read: {error.strerror}") from error
        if len(content) > _MOST_BYTES:
            raise InvalidArgument(f"{self._path} has more than {_MOST_BYTES} bytes")
        return content


def _text(content: bytes, path: Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is no text in UTF-8") from error
