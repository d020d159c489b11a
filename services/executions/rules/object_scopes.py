"""The project-domains that an object belongs to, by its URI: of what the control plane writes, and of uploads.

Engines write where they like, so their objects belong to no project that could be read from a URI. A caller needs a
role everywhere to get such a URI signed; GetData and CreateDownloadLink name the node instead.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from flyteidl.service.dataproxy_pb2 import CreateDownloadLocationRequest

from services.contracts.authorization.methods import EVERYWHERE
from services.contracts.authorization.references import ProjectDomain
from services.executions.config import Settings

_SIGNS = "/flyteidl.service.DataProxyService/CreateDownloadLocation"

_PART = r"[^/\x00-\x1f\x7f]+"
_SCOPE = f"(?P<project>{_PART})/(?P<domain>{_PART})"
_DIGEST = "[0-9a-f]{64}"
# Of launches and of events (`launching.launcher`, `rules.events.layout`).
_DATA = rf"metadata/{_SCOPE}/(?:{_PART}/)+(?:inputs|user_inputs|offloaded_inputs|offloaded_outputs)"
# Of registered workflows and of dynamic nodes, below `metadata_storage_prefix`.
_CLOSURE = rf"{_SCOPE}/(?:{_DIGEST}|(?:{_PART}/)+dynamic/{_DIGEST})"
# Of uploads, below `upload_prefix` (`rules.data_proxy`); the folder of an organisation begins with @.
_UPLOAD = rf"(?:@{_PART}/)?{_SCOPE}/(?:{_PART}/)*{_PART}"


def scopes_of_objects(
    base: str, settings: Settings
) -> Mapping[str, Callable[[CreateDownloadLocationRequest], Iterable[ProjectDomain]]]:
    """Return how the scopes of the RPCs that name objects are found, by path.

    Args:
        base: The URI below which the objects of the control plane are.
        settings: Those of executions.
    """
    root = re.escape(base.rstrip("/")) + "/"
    closures, uploads = (_folder(name) for name in (settings.metadata_storage_prefix, settings.upload_prefix))
    patterns = [re.compile(root + path) for path in (_DATA, closures + _CLOSURE, uploads + _UPLOAD)]
    return {_SIGNS: partial(_scopes, patterns)}


def _folder(path: str) -> str:
    return "".join(f"{re.escape(part)}/" for part in path.split("/") if part)


def _scopes(patterns: Iterable[re.Pattern[str]], request: CreateDownloadLocationRequest) -> Iterable[ProjectDomain]:
    """Return every project-domain that a URI may belong to: with odd prefixes two patterns may fit."""
    uri: str = request.native_url
    found = [match for pattern in patterns if (match := pattern.fullmatch(uri)) is not None]
    # A relative segment or an escape may lead elsewhere.
    if not found or "%" in uri or any(part in {"", ".", ".."} for part in uri.split("://", 1)[-1].split("/")[1:]):
        return (EVERYWHERE,)
    return {(match["project"], match["domain"]) for match in found}
