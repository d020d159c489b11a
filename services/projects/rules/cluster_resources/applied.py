"""Which templates are applied: those with new text or values, and all after a time (engine.md#cluster-resources)."""

import hashlib
import json
from typing import NamedTuple

from services.projects.rules.cluster_resources.values import Values
from services.projects.rules.cluster_resources.yaml_templates import Template


class AppliedKey(NamedTuple):
    """A template of a project-domain."""

    project: str
    domain: str
    template: str


class Applied:
    """What was applied to one cluster by this process.

    It is kept by what the objects are made of, so that unchanged templates are not even parsed. Failures are not kept:
    they are tried again in the next round.
    """

    def __init__(self, again_seconds: float) -> None:
        self._again_seconds = again_seconds
        self._applied: dict[AppliedKey, tuple[bytes, float]] = {}

    def is_due(self, key: AppliedKey, fingerprint: bytes, now: float) -> bool:
        """Return whether a template is to be applied at `now`, in seconds of any clock that does not go back."""
        known, at = self._applied.get(key, (b"", 0.0))
        return known != fingerprint or now - at >= self._again_seconds

    def clear(self) -> None:
        """Forget everything: all is due."""
        self._applied.clear()

    def add(self, key: AppliedKey, fingerprint: bytes, now: float) -> None:
        """Record that the template was applied at `now`."""
        self._applied[key] = fingerprint, now


def fingerprint(template: Template, values: Values) -> bytes:
    """Return a hash of what the objects of a template are made of."""
    parts = (values.own, values.attributes, values.settings)
    content = json.dumps([template.text, *(sorted(part.items()) for part in parts)])
    return hashlib.sha256(content.encode()).digest()
