"""Names of executions: checks, and generated names (executions.md#execution-names)."""

import re
from collections.abc import Callable

from services.contracts.identifiers import NAME_ALPHABET
from services.kit.errors import InvalidArgument

# The name becomes a Kubernetes label and resource name.
MAX_NAME_BYTES = 63
# Together with the first letter 20 characters: the engine's names of child executions and pods need the rest.
_GENERATED_CHARACTERS = 19

# flyteadmin checks the lower-cased name and so accepts names that Kubernetes refuses later; here the name itself is
# checked.
_NAME = re.compile(r"[a-z][a-z\-0-9]*", re.ASCII)


def check_name(name: str) -> None:
    """Raise InvalidArgument unless `name` is valid for an execution."""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidArgument(f"size of name exceeded length {MAX_NAME_BYTES} : {name}")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"invalid name format: {name}, does not match regex '^{_NAME.pattern}$'")


def generated_name(choose: Callable[[str], str]) -> str:
    """Return a name of 20 characters; `choose` picks one character of an alphabet at random."""
    return "a" + random_text(choose, _GENERATED_CHARACTERS)


def random_text(choose: Callable[[str], str], length: int) -> str:
    """Return `length` characters of the alphabet of names."""
    return "".join(choose(NAME_ALPHABET) for _ in range(length))
