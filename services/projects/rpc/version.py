"""GetVersion: what is running."""

from datetime import datetime

from flyteidl.admin.version_pb2 import GetVersionRequest, GetVersionResponse, Version

from services.kit.rpc.table import Call
from services.projects.config import Settings


class VersionHandlers:
    """Answers from the settings; a build that carries no time of its own shows when the process started."""

    def __init__(self, settings: Settings, started: datetime) -> None:
        # Go's time.String() form, which is what the reference shows (projects.md 15).
        build_time = settings.build_time or f"{started:%Y-%m-%d %H:%M:%S.%f %z %Z}"
        version = Version(Version=_tag(settings.version), Build=settings.build, BuildTime=build_time)
        self._response = GetVersionResponse(control_plane_version=version)

    async def GetVersion(self, _request: GetVersionRequest, _call: Call) -> GetVersionResponse:
        """Answer the version of the control plane; cannot fail (projects.md 15)."""
        return self._response


def _tag(version: str) -> str:
    """Return a version as the reference's releases are named, which clients expect: with a `v` before the number."""
    return f"v{version}" if version[:1].isdigit() else version
