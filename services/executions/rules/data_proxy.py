"""Uploads and downloads by signed URL: what may be asked for, and where an upload goes (executions.md section 11)."""

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
from services.kit.objects.names import check_path

# Length of the name of an upload that has none.
FILENAME_CHARACTERS = 20
_MD5_BYTES = 16
# What Amazon S3 and Google Cloud Storage take of a key; enough is left for the prefix.
_MOST_PATH_BYTES = 900
# What the folder of an organisation begins with: no project's folder does, so none can be taken for the other.
_ORGANISATION = "@"
_NANOS_PER_SECOND = 1_000_000_000
# The largest protobuf duration, 10,000 years.
_MAX_SECONDS = 315_576_000_000


def check_upload(request: CreateUploadLocationRequest) -> None:
    """Raise InvalidArgument for what is missing (11.1, rules 1 and 2), a digest that is none, or parts of no path.

    Whoever uploads elsewhere gets another path: only root and file name may consist of several segments.
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
    """Return the parts of the path of an upload, without the prefix and the file's name."""
    root = request.filename_root or base64.b32encode(request.content_md5).decode()
    organisation = _ORGANISATION + request.org if request.org else ""
    return (organisation, request.project, request.domain, root)


def check_rewrite(request: CreateUploadLocationRequest, uri: str, kept_md5: bytes | None, etag: str) -> None:
    """Raise AlreadyExists when an upload would replace a file with other content (11.1, rules 3 and 3a).

    `kept_md5` is the digest remembered at the upload of the file that is there, `etag` what its store says of it.
    """
    md5 = request.content_md5
    if kept_md5 is not None:
        same = kept_md5 == md5
    else:
        same = etag in {md5.hex(), base64.b32encode(md5).decode(), base64.b64encode(md5).decode()}
    if not md5 or not same:
        raise AlreadyExists(f"file already exists at location [{uri}], specify a matching hash if you wish to rewrite")


def life(asked: Duration | None, longest: timedelta) -> timedelta:
    """Return how long a URL works: as asked, the longest when nothing is; raises InvalidArgument (11.1, rule 4).

    The reference signs uploads for negative times, which no client could use; here they are refused as downloads are.
    """
    if asked is None:
        return longest
    nanoseconds = asked.seconds * _NANOS_PER_SECOND + asked.nanos
    valid = abs(asked.seconds) <= _MAX_SECONDS and abs(asked.nanos) < _NANOS_PER_SECOND
    if not valid or asked.seconds * asked.nanos < 0 or nanoseconds < 0:
        raise InvalidArgument(f"expiresIn [{asked.seconds}s {asked.nanos}ns] is invalid")
    if nanoseconds > longest // timedelta(microseconds=1) * 1000:
        raise InvalidArgument(f"expiresIn [{asked.seconds}s] cannot exceed max allowed expiration [{longest}]")
    return timedelta(microseconds=nanoseconds // 1000)


def check_link(request: CreateDownloadLinkRequest) -> None:
    """Raise InvalidArgument unless a node's deck is asked for (11.3)."""
    if request.artifact_type != ARTIFACT_TYPE_DECK:
        raise InvalidArgument(f"invalid artifact type [{request.artifact_type}]")
    if request.WhichOneof("source") != "node_execution_id":
        raise InvalidArgument("unsupported source: only node_execution_id is")
    check_node_execution_identifier(request.node_execution_id)


def link_text(request: CreateDownloadLinkRequest) -> str:
    """Name what a link is asked for, as the reference prints the request."""
    node = identifier_text(request.node_execution_id)
    return f"[artifact_type:{ArtifactType.Name(request.artifact_type)} node_execution_id:{{{node}}}]"
