"""The Lua scripts as Envoy gets them: the shared part first, values from flyteidl and the settings filled in."""

from collections.abc import Iterable
from pathlib import Path

from gateway import limits
from gateway.descriptors import Form, Pattern
from gateway.filters import LARGE_JSON, largest_body

FOLDER = Path(__file__).with_name("lua")
# Placeholders in the scripts.
PATTERNS = "--@REST_PATTERNS@"
LARGEST_BODIES = "--@LARGEST_BODIES@"
NUMBERS = {
    "--@LARGE_JSON@": LARGE_JSON,
    "--@UNFINISHED_BODIES@": limits.UNFINISHED_BODIES,
    "--@COUNTED_BODY@": limits.COUNTED_BODY,
    "--@MOST_QUERY_PAIRS@": limits.MOST_QUERY_PAIRS,
}
ORIGINS = "--@ORIGINS@"
HOSTS = "--@HOSTS@"


def origin(origins: Iterable[str], hosts: Iterable[str]) -> str:
    """Return the script that refuses web pages of other origins than these, and other names of the gateway."""
    script = _script("origin")
    for placeholder, texts in ((ORIGINS, origins), (HOSTS, hosts)):
        script = script.replace(placeholder, ", ".join(f'["{text.lower()}"] = true' for text in texts))
    return script


def inner() -> str:
    """Return the script between the transcoder and the services."""
    return _script("inner")


def outer(patterns: Iterable[Pattern], largest_message: int) -> str:
    """Return the script in front of the transcoder, with these REST patterns and the size limits of bodies."""
    largest = ", ".join(f"{form} = {largest_body(form, largest_message)}" for form in Form)
    script = _script("outer").replace(PATTERNS, "\n".join(map(_call, patterns))).replace(LARGEST_BODIES, largest)
    for placeholder, number in NUMBERS.items():
        script = script.replace(placeholder, str(number))
    return script


def _script(name: str) -> str:
    return (FOLDER / "wire.lua").read_text() + "\n" + (FOLDER / f"{name}.lua").read_text()


def _call(pattern: Pattern) -> str:
    variables = ", ".join(f'"{field}"' for field in pattern.variables)
    return f'rest("{pattern.verb}", "{pattern.shape}", {str(pattern.has_body).lower()}, {{ {variables} }})'
