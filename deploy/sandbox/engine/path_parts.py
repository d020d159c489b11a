"""Names that clients choose, as parts of paths: two names are never one part, and no part leads out of its folder."""

import hashlib
from typing import Final
from urllib.parse import quote

# The longest name in a file system, and how much of a longer one is kept, so that people recognize it.
_MOST_CHARACTERS: Final = 255
_KEPT_CHARACTERS: Final = 180
# Comes before the digest of a long name; quoted text does not contain it.
_DIGEST_MARK: Final = "%%"


def path_part(name: str) -> str:
    """Return `name` as the name of a file: quoted, not `.` or `..`, and not longer than a file system takes."""
    quoted = quote(name, safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= _MOST_CHARACTERS:
        return quoted
    return f"{quoted[:_KEPT_CHARACTERS]}{_DIGEST_MARK}{hashlib.sha256(name.encode()).hexdigest()}"
