"""Requests of every RPC in a project-domain, and policies, for tests of authorisation."""

from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.contracts.authorization.authorizer import Authorizer
from services.contracts.authorization.methods import ACCESS, Access, Reach
from services.contracts.authorization.policy import parse_policy
from services.contracts.authorization.roles import INCLUDED, Role
from services.contracts.flyte_services import SERVICES
from services.kit.rpc.callers import Caller

SCOPE = ("mine", "development")
OTHER = ("others", "development")

METHODS = {f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
"""The descriptors of all methods by path."""

NATIVE_URL, FLYTE_URL = "native_url", "flyte_url"


def request_of(path: str, scope: tuple[str, str] = SCOPE, objects: str = "", *, child: bool = False) -> Any:
    """Return a request to the method at `path`, with its scope and nothing else.

    Args:
        path: The full path of the method.
        scope: Its project and domain.
        objects: The base URI of the object store.
        child: Whether a launch names a parent next to it, as engines do.
    """
    request: Any = GetMessageClass(METHODS[path].input_type)()
    access = ACCESS[path]
    for field, value in zip((access.project, access.domain), scope, strict=True):
        _set(request, field, value)
    if FLYTE_URL in request.DESCRIPTOR.fields_by_name:
        request.flyte_url = f"flyte://v1/{'/'.join(scope)}/e/n0/i"
    if NATIVE_URL in request.DESCRIPTOR.fields_by_name:
        request.native_url = f"{objects}/uploads/{'/'.join(scope)}/folder/file"
    if child:
        metadata = request.spec.metadata if hasattr(request, "spec") else request.metadata
        parent = metadata.parent_node_execution
        parent.node_id, parent.execution_id.name = "n0", "parent"
        parent.execution_id.project, parent.execution_id.domain = scope
    return request


def _set(message: Message, path: str, value: str) -> None:
    if not path:
        return
    *messages, text = path.split(".")
    for name in messages:
        message = getattr(message, name)
    setattr(message, text, value)


def has_scope(access: Access) -> bool:
    """Return whether the requests of a method name a project."""
    return bool(access.project) or access.find is not None


def allowed(path: str, role: Role, *, within: bool, child: bool = False) -> bool:
    """Return whether the table allows a call to a caller that has `role` in SCOPE alone.

    Args:
        path: The full path of the method.
        role: The role of the caller.
        within: Whether the request is about SCOPE; otherwise it is about OTHER.
        child: As of `request_of`.
    """
    access = ACCESS[path]
    if access.reach in {Reach.NONE, Reach.PUBLIC}:
        return True
    if access.reach is Reach.SOMEWHERE:
        return access.role in INCLUDED[role]
    if not within or not (has_scope(access) or path.endswith("/CreateDownloadLocation")):
        return False
    if not access.domain and access.find is None and access.project and access.reach is Reach.SCOPE:
        return False  # needs the role in all domains of the project
    by_engine = access.engine or (child and access.engine_if is not None)
    return access.role in INCLUDED[role] or (role is Role.ENGINE and by_engine)


def policy_text(*bindings: dict[str, Any]) -> str:
    """Return the text of a policy file."""
    return yaml.safe_dump({"bindings": list(bindings)})


def binding(role: Role | str, scope: tuple[str, str] = SCOPE, **conditions: Any) -> dict[str, Any]:
    """Return a binding of `role` in a project-domain, to the subject of its name unless there are conditions."""
    project, domain = scope
    return {
        "role": str(role),
        "projects": [project],
        "domains": [domain],
        **(conditions or {"subjects": [str(role)]}),
    }


def authorizer_with(*bindings: dict[str, Any], **scopes: Any) -> Authorizer:
    """Return an authorizer with a policy of these bindings."""
    authorizer = Authorizer(scopes)
    authorizer.use(parse_policy(policy_text(*bindings)))
    return authorizer


def named(subject: str, client: str = "", **claims: Any) -> Caller:
    """Return a caller."""
    return Caller(subject, client, {"sub": subject, **claims})


def launches() -> Iterable[str]:
    """Return the paths of the methods by which engines launch children."""
    return [path for path, access in ACCESS.items() if access.engine_if is not None]


def cases() -> Iterator[tuple[str, bool]]:
    """Yield each path, and a launch also as that of a child."""
    for path in ACCESS:
        yield path, False
        if ACCESS[path].engine_if is not None:
            yield path, True
