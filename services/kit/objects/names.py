"""Paths of objects: what may stand in one, whatever store holds it."""

import re

from services.kit.errors import InvalidArgument

# Control characters and separators of lines: stores refuse some of them, and they can forge lines of a log.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_path(path: str, said: str) -> None:
    """Raise InvalidArgument unless `path` consists of segments that stay where they are; `said` names it."""
    if any(segment in {"", ".", ".."} for segment in path.split("/")):
        raise InvalidArgument(f"invalid uri: {said} has a segment that is empty, '.' or '..'")
    if _CONTROL.search(path):
        raise InvalidArgument(f"invalid uri: {said} has a control character")
