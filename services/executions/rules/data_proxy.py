"""Checks of uploads and downloads by signed URL, and paths of uploads (executions.md#dataproxyservice)."""

import base64
from datetime import timedelta

from flyteidl.service.dataproxy_pb2 import (
    ARTIFACT_TYPE_DECK,
    ArtifactType,
    CreateDownloadLinkRequest,
    CreateUploadLocationRequest,
)
from google.protobuf.duration_pb2 import Duration

from services.contracts.identifiers import check_node_execution_identifier, identifier_text
from services.kit.errors import AlreadyExists, InvalidArgument
from services.kit.objects.paths import check_path

# Length of a generated file name.
FILENAME_CHARACTERS = 20
_MD5_BYTES = 16
# Amazon S3 and Google Cloud Storage accept keys of 1024 bytes; the prefix needs the rest.
_MOST_PATH_BYTES = 900
# First character of an organisation's folder. No project's folder begins with it, so the two cannot be confused.
_ORGANISATION = "@"
_NANOS_PER_SECOND = 1_000_000_000
# The largest protobuf duration, 10,000 years.
_MAX_SECONDS = 315_576_000_000


def check_upload(request: CreateUploadLocationRequest) -> None:
    """Raise InvalidArgument for missing fields, an invalid digest, or fields that cannot be part of a path.

    Only root and file name may have several segments, so different requests get different paths
    (executions.md#createuploadlocation).
    """
    if not request.project or not request.domain:
        raise InvalidArgument("project and domain are required parameters")
    if not request.filename_root and not request.content_md5:
        raise InvalidArgument("content_md5 or filename_root is a required parameter")
    if request.content_md5 and len(request.content_md5) != _MD5_BYTES:
        raise InvalidArgument(f"content_md5 has {len(request.content_md5)} bytes, an MD5 digest has {_MD5_BYTES}")

    for field in ("org", "project", "domain", "filename_root", "filename"):
        if getattr(request, field):
            _check_part(field, getattr(request, field))
    if request.project.startswith(_ORGANISATION):
        raise InvalidArgument(f"invalid uri: project begins with {_ORGANISATION}")
    size = len("/".join([*upload_folder(request), request.filename]).encode())
    if size > _MOST_PATH_BYTES:
        raise InvalidArgument(f"invalid uri: the path has {size} bytes, an upload may have {_MOST_PATH_BYTES}")


def _check_part(field: str, value: str) -> None:
    check_path(value, field)
    if "\\" in value:
        raise InvalidArgument(f"invalid uri: {field} has a backslash")
    if "/" in value and field not in {"filename_root", "filename"}:
        raise InvalidArgument(f"invalid uri: {field} has a slash")


def upload_folder(request: CreateUploadLocationRequest) -> tuple[str, ...]:
    """Return the segments of an upload's path, without the prefix and the file name."""
    root = request.filename_root or base64.b32encode(request.content_md5).decode()
    organisation = _ORGANISATION + request.org if request.org else ""
    return (organisation, request.project, request.domain, root)


def check_rewrite(request: CreateUploadLocationRequest, uri: str, stored_md5: bytes | None, etag: str) -> None:
    """Raise AlreadyExists if an upload would replace a file with other content (executions.md#createuploadlocation).

    Args:
        request: The request.
        uri: The URI of the existing file.
        stored_md5: The digest stored at its upload; None without one.
        etag: Its ETag in the object store.
    """
    md5 = request.content_md5
    if stored_md5 is not None:
        same = stored_md5 == md5
    else:
        same = etag in {md5.hex(), base64.b32encode(md5).decode(), base64.b64encode(md5).decode()}
    if not md5 or not same:
        raise AlreadyExists(f"file already exists at location [{uri}], specify a matching hash if you wish to rewrite")


def lifetime(expires_in: Duration | None, longest: timedelta) -> timedelta:
    """Return the lifetime of a URL: as requested, else the longest; raises InvalidArgument.

    flyteadmin signs uploads for negative times, which no client can use; here they are refused as for downloads.
    """
    if expires_in is None:
        return longest
    nanoseconds = expires_in.seconds * _NANOS_PER_SECOND + expires_in.nanos
    valid = abs(expires_in.seconds) <= _MAX_SECONDS and abs(expires_in.nanos) < _NANOS_PER_SECOND
    if not valid or expires_in.seconds * expires_in.nanos < 0 or nanoseconds < 0:
        raise InvalidArgument(f"expiresIn [{expires_in.seconds}s {expires_in.nanos}ns] is invalid")
    if nanoseconds > longest // timedelta(microseconds=1) * 1000:
        raise InvalidArgument(f"expiresIn [{expires_in.seconds}s] cannot exceed max allowed expiration [{longest}]")
    return timedelta(microseconds=nanoseconds // 1000)


def check_link(request: CreateDownloadLinkRequest) -> None:
    """Raise InvalidArgument unless the request is for a node's deck (executions.md#createdownloadlink)."""
    if request.artifact_type != ARTIFACT_TYPE_DECK:
        raise InvalidArgument(f"invalid artifact type [{request.artifact_type}]")
    if request.WhichOneof("source") != "node_execution_id":
        raise InvalidArgument("unsupported source: only node_execution_id is")
    check_node_execution_identifier(request.node_execution_id)


def link_text(request: CreateDownloadLinkRequest) -> str:
    """Return the text of a request as flyteadmin prints it."""
    node = identifier_text(request.node_execution_id)
    return f"[artifact_type:{ArtifactType.Name(request.artifact_type)} node_execution_id:{{{node}}}]"
