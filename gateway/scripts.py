"""The Lua scripts as Envoy gets them: the shared part before each, and flyteidl's REST patterns in the outer one."""

from collections.abc import Iterable
from pathlib import Path

from gateway.descriptors import Pattern

FOLDER = Path(__file__).with_name("lua")
PLACE_OF_PATTERNS = "--@REST_PATTERNS@"


def inner() -> str:
    """Return the script between the transcoder and the services."""
    return _script("inner")


def outer(patterns: Iterable[Pattern]) -> str:
    """Return the script in front of the transcoder, which knows these REST patterns."""
    return _script("outer").replace(PLACE_OF_PATTERNS, "\n".join(map(_call, patterns)))


def _script(name: str) -> str:
    return (FOLDER / "wire.lua").read_text() + "\n" + (FOLDER / f"{name}.lua").read_text()


def _call(pattern: Pattern) -> str:
    variables = ", ".join(f'"{field}"' for field in pattern.variables)
    return f'rest("{pattern.verb}", "{pattern.shape}", {str(pattern.has_body).lower()}, {{ {variables} }})'
