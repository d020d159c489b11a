"""Types of resources, and their paths on an API server."""

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class ResourceType:
    """A type of resources, as API discovery describes it; the core group is ""."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the path of an object, or of the collection without a name; of all namespaces without one."""
        parts = [group_path(self.api_version)]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        return "/".join(parts)


def group_path(api_version: str) -> str:
    """Return the path of an apiVersion."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
