"""The decision on a call, by the policy, the table of methods and what the request names."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from services.contracts.authorization.methods import EVERYWHERE, Access, Reach, compiled_methods
from services.contracts.authorization.policy import Binding, Policy, like_pattern
from services.contracts.authorization.references import ProjectDomain, references
from services.contracts.authorization.roles import INCLUDED, Role
from services.kit.errors import PermissionDenied
from services.kit.rpc.callers import Caller

FindScopes = Callable[[Any], Iterable[ProjectDomain]]

_NO_SCOPES: Mapping[str, FindScopes] = MappingProxyType({})
# Callers whose roles are kept, and project-domains of each. Clients repeat the same ones; when a cache is full it is
# cleared.
_MOST_CALLERS = 1024
_MOST_SCOPES = 4096
# Of names in messages: a request may have any.
_MOST_SHOWN_CHARACTERS = 100

_READERS = frozenset([Role.VIEWER, Role.ENGINE])


class Authorizer:
    """Decides on calls; `use` must give it a policy before the first.

    Args:
        scopes: By path of a method, how the service finds the scopes of requests that only it can read.

    Raises:
        ValueError: The table of methods does not fit flyteidl.
    """

    def __init__(self, scopes: Mapping[str, FindScopes] = _NO_SCOPES) -> None:
        self._methods = compiled_methods(scopes)
        self._callers = _Callers(())

    def use(self, policy: Policy) -> None:
        """Decide by `policy` from now on."""
        self._callers = _Callers(policy.bindings)

    def authorize(self, path: str, request: Message, caller: Caller) -> str:
        """Return the role by which `caller` may make this call, "" where none is needed.

        Raises:
            PermissionDenied: It may not; the message depends on the request and the policy alone.
        """
        method = self._methods.get(path)
        if method is None:
            raise PermissionDenied(f"{path} is in no table of roles")
        access = method.access
        if access.reach is Reach.PUBLIC:
            return ""
        if access.reach is Reach.NONE:
            if not (caller.subject or caller.client):
                raise PermissionDenied("permission denied: the caller is not known")
            return ""
        roles = self._callers.roles_of(caller)
        if access.reach is Reach.SOMEWHERE:
            if access.role not in roles.anywhere:
                raise _denied(caller, access.role, "any project")
            return access.role
        scopes = tuple(method.scopes(request))
        within = roles.of_project if access.reach is Reach.SOME_DOMAIN else roles.within
        held = [within(*scope) for scope in scopes]
        role = _role_held(access, request, held)
        if role is None:
            lacking = next(scope for scope, each in zip(scopes, held, strict=True) if access.role not in each)
            raise _denied(caller, access.role, _place(lacking))
        for scope in references(request).difference(scopes):
            if roles.within(*scope).isdisjoint(_READERS):
                raise _denied(caller, Role.VIEWER, f"{_place(scope)}, which the request names")
        return role

    def check_readable(self, caller: Caller, project: str, domain: str) -> None:
        """Raise PermissionDenied unless `caller` may read what is in a project-domain."""
        if self._callers.roles_of(caller).within(project, domain).isdisjoint(_READERS):
            raise _denied(caller, Role.VIEWER, _place((project, domain)))

    def visible_projects(self, caller: Caller) -> tuple[str, ...] | None:
        """Return patterns of LIKE for the projects of which `caller` may read a domain; None for all projects."""
        roles = self._callers.roles_of(caller)
        if Role.VIEWER in roles.of_project(""):
            return None
        return tuple(sorted({like_pattern(each) for binding in roles.reading for each in binding.projects}))


class _Callers:
    """The roles of callers by one policy. Calls decide in threads, too, also while the policy changes."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._bindings = bindings
        self._known: dict[int, tuple[Caller, _Roles]] = {}

    def roles_of(self, caller: Caller) -> "_Roles":
        """Return the roles of `caller`."""
        # By identity: the claims of a token are read once, and cannot be hashed.
        known = self._known.get(id(caller))
        if known is not None and known[0] is caller:
            return known[1]
        if len(self._known) >= _MOST_CALLERS:
            self._known = {}
        roles = _Roles([binding for binding in self._bindings if binding.matches(caller)])
        self._known[id(caller)] = (caller, roles)
        return roles


class _Roles:
    """The roles of one caller."""

    def __init__(self, bindings: Sequence[Binding]) -> None:
        self._bindings = bindings
        self._within: dict[ProjectDomain, frozenset[Role]] = {}
        self.anywhere = _included(bindings)
        self.reading = [binding for binding in bindings if Role.VIEWER in INCLUDED[binding.role]]

    def within(self, project: str, domain: str) -> frozenset[Role]:
        """Return the roles in a project-domain; "" is every project, or all domains."""
        roles = self._within.get((project, domain))
        if roles is None:
            if len(self._within) >= _MOST_SCOPES:
                self._within = {}
            roles = _included(binding for binding in self._bindings if binding.covers(project, domain))
            self._within[project, domain] = roles
        return roles

    def of_project(self, project: str, _domain: str = "") -> frozenset[Role]:
        """Return the roles in at least one domain of a project."""
        return _included(binding for binding in self._bindings if binding.covers_project(project))


def _role_held(access: Access, request: Message, held: Sequence[frozenset[Role]]) -> Role | None:
    """Return the role by which a caller may make a request; None when it may not.

    A launch that only engines send is the engine's also when its caller has both roles, other calls are not.
    """
    roles = [access.role]
    if access.engine and access.engine_if is None:
        roles = [access.role, Role.ENGINE]
    elif access.engine_if is not None and access.engine_if(request):
        roles = [Role.ENGINE, access.role]
    return next((role for role in roles if all(role in each for each in held)), None)


def _included(bindings: Iterable[Binding]) -> frozenset[Role]:
    return frozenset().union(*(INCLUDED[binding.role] for binding in bindings))


def _denied(caller: Caller, role: Role, place: str) -> PermissionDenied:
    if not (caller.subject or caller.client):
        who = "a caller that is not known"
    else:
        who = _shown(caller.subject or caller.client)
        if caller.subject and caller.client:
            who += f" (client {_shown(caller.client)})"
    return PermissionDenied(f"permission denied: {who} needs the role {role} in {place}")


def _place(scope: ProjectDomain) -> str:
    project, domain = scope
    if scope == EVERYWHERE:
        return "all domains of all projects"
    of_project = f"project {_shown(project)}" if project else "all projects"
    return f"{of_project}, domain {_shown(domain)}" if domain else f"all domains of {of_project}"


def _shown(name: str) -> str:
    return json.dumps(name[:_MOST_SHOWN_CHARACTERS], ensure_ascii=False)
