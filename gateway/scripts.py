"""The Lua scripts as Envoy gets them: the shared part first, values from flyteidl and the settings filled in."""

from collections.abc import Iterable
from pathlib import Path

from gateway.descriptors import Form, Pattern
from gateway.filters import LARGE_JSON, largest_body

FOLDER = Path(__file__).with_name("lua")
# Placeholders in the scripts.
PATTERNS = "--@REST_PATTERNS@"
LARGEST_BODIES = "--@LARGEST_BODIES@"
LARGE_JSON_BODY = "--@LARGE_JSON@"
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
    limits = ", ".join(f"{form} = {largest_body(form, largest_message)}" for form in Form)
    script = _script("outer").replace(PATTERNS, "\n".join(map(_call, patterns)))
    return script.replace(LARGEST_BODIES, limits).replace(LARGE_JSON_BODY, str(LARGE_JSON))


def _script(name: str) -> str:
    return (FOLDER / "wire.lua").read_text() + "\n" + (FOLDER / f"{name}.lua").read_text()


def _call(pattern: Pattern) -> str:
    variables = ", ".join(f'"{field}"' for field in pattern.variables)
    return f'rest("{pattern.verb}", "{pattern.shape}", {str(pattern.has_body).lower()}, {{ {variables} }})'
