"""The roles that a policy binds to callers."""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """A role. Each includes those before it, except for the engine's."""

    VIEWER = "viewer"
    """Reads everything, inputs and outputs too."""
    LAUNCHER = "launcher"
    """Launches, repeats, stops and archives executions, sets signals, uploads."""
    CONTRIBUTOR = "contributor"
    """Registers tasks, workflows and launch plans, and activates launch plans."""
    ADMIN = "admin"
    """Changes projects and their matchable attributes."""
    ENGINE = "engine"
    """Sends events, and reads and launches what running an execution takes; included in no other role."""


_ORDER = (Role.VIEWER, Role.LAUNCHER, Role.CONTRIBUTOR, Role.ADMIN)

INCLUDED: Mapping[Role, frozenset[Role]] = {
    **{role: frozenset(_ORDER[: at + 1]) for at, role in enumerate(_ORDER)},
    Role.ENGINE: frozenset([Role.ENGINE]),
}
"""The roles that a role includes, itself among them."""
