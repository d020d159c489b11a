"""GetVersion: the version of the control plane (projects.md#getversion)."""

from datetime import datetime

from flyteidl.admin.version_pb2 import GetVersionRequest, GetVersionResponse, Version

from services.kit.rpc.table import Call
from services.projects.config import Settings


class VersionHandlers:
    """The RPC about the version, which is in the settings; without a build time it shows when the process started."""

    def __init__(self, settings: Settings, started: datetime) -> None:
        # In the form of Go's time.String(), as flyteadmin shows it.
        build_time = settings.build_time or f"{started:%Y-%m-%d %H:%M:%S.%f %z %Z}"
        version = Version(Version=_tag(settings.version), Build=settings.build, BuildTime=build_time)
        self._response = GetVersionResponse(control_plane_version=version)

    async def GetVersion(self, _request: GetVersionRequest, _call: Call) -> GetVersionResponse:
        """Return the version of the control plane; cannot fail."""
        return self._response


def _tag(version: str) -> str:
    """Return a version as flyteadmin's releases are named, which clients expect: with a `v` before a number."""
    return f"v{version}" if version[:1].isdigit() else version
