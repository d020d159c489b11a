"""The Lua scripts as Envoy gets them: the shared part before each, and what they know of flyteidl and the settings."""

from collections.abc import Iterable
from pathlib import Path

from gateway.descriptors import Form, Pattern
from gateway.filters import largest_body

FOLDER = Path(__file__).with_name("lua")
PLACE_OF_PATTERNS = "--@REST_PATTERNS@"
PLACE_OF_LIMITS = "--@LARGEST_BODIES@"
PLACE_OF_ORIGINS = "--@ORIGINS@"
PLACE_OF_HOSTS = "--@HOSTS@"


def origin(origins: Iterable[str], hosts: Iterable[str]) -> str:
    """Return the script that refuses web pages of other origins than these, and other names of the gateway."""
    script = _script("origin")
    for place, texts in ((PLACE_OF_ORIGINS, origins), (PLACE_OF_HOSTS, hosts)):
        script = script.replace(place, ", ".join(f'["{text.lower()}"] = true' for text in texts))
    return script


def inner() -> str:
    """Return the script between the transcoder and the services."""
    return _script("inner")


def outer(patterns: Iterable[Pattern], largest_message: int) -> str:
    """Return the script in front of the transcoder, which knows these REST patterns and how long bodies may be."""
    limits = ", ".join(f"{form} = {largest_body(form, largest_message)}" for form in Form)
    return _script("outer").replace(PLACE_OF_PATTERNS, "\n".join(map(_call, patterns))).replace(PLACE_OF_LIMITS, limits)


def _script(name: str) -> str:
    return (FOLDER / "wire.lua").read_text() + "\n" + (FOLDER / f"{name}.lua").read_text()


def _call(pattern: Pattern) -> str:
    variables = ", ".join(f'"{field}"' for field in pattern.variables)
    return f'rest("{pattern.verb}", "{pattern.shape}", {str(pattern.has_body).lower()}, {{ {variables} }})'
