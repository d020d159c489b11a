"""Values of authorisation and of the audit log."""

from pydantic import Field

from deploy.chart.base import KubernetesObject, Values


class Authorization(Values):
    """Which callers may do what (docs/authorization.md#roles)."""

    bindings: list[KubernetesObject] = []
    """Bindings of the policy, as in docs/authorization.md#policy; they need `auth`. Empty: every caller that the
    gateway lets in may do everything. A change reaches the services without a restart, in a minute or two."""


class Audit(Values):
    """The audit log (docs/operating/audit.md#what-is-recorded)."""

    enabled: bool = False
    """Whether the services record who changed what, and who was denied."""

    days: int = Field(default=90, ge=0)
    """Days for which records are stored; 0 is without end."""
