"""Names of executions: which are accepted, and how one is made when the client gives none (executions.md 2.2, 2.3)."""

import re
from collections.abc import Callable

from services.contracts.identifiers import NAME_ALPHABET
from services.kit.errors import InvalidArgument

# The name becomes a Kubernetes label and resource name.
MAX_NAME_BYTES = 63
# One letter and these make 20 characters, the most that the engine's names of child executions and pods leave room for.
_GENERATED_CHARACTERS = 19

# The reference lower-cases first and so accepts names that Kubernetes refuses later; here the name is checked as given.
_NAME = re.compile(r"[a-z][a-z\-0-9]*", re.ASCII)


def check_name(name: str) -> None:
    """Raise InvalidArgument unless `name` can name an execution."""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidArgument(f"size of name exceeded length {MAX_NAME_BYTES} : {name}")
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"invalid name format: {name}, does not match regex '^{_NAME.pattern}$'")


def generated_name(choose: Callable[[str], str]) -> str:
    """Make a name of 20 characters; `choose` picks one character of an alphabet at random."""
    return "a" + random_text(choose, _GENERATED_CHARACTERS)


def random_text(choose: Callable[[str], str], length: int) -> str:
    """Make `length` characters of the alphabet of names."""
    return "".join(choose(NAME_ALPHABET) for _ in range(length))
