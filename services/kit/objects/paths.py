"""Rules for paths of objects, independent of the store."""

import re

from services.kit.errors import InvalidArgument

# Control characters and line separators: some stores refuse them, and they could forge log lines.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_path(path: str, label: str) -> None:
    """Raise InvalidArgument for a path with an empty or relative segment or a control character.

    Args:
        path: the path.
        label: its name in messages.
    """
    if any(segment in {"", ".", ".."} for segment in path.split("/")):
        raise InvalidArgument(f"invalid uri: {label} has a segment that is empty, '.' or '..'")
    if _CONTROL.search(path):
        raise InvalidArgument(f"invalid uri: {label} has a control character")
