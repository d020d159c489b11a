"""Requests to one API server: create, read, list, delete and apply objects.

Objects are dictionaries as in JSON. Errors are those of `services.kit.errors`, with the server's words.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Self

from services.kit.errors import NotFound, OutOfRange, PermissionDenied, Unauthenticated, Unavailable
from services.kit.kubernetes.access import ReadAccess
from services.kit.kubernetes.resource_types import ResourceType, group_path
from services.kit.kubernetes.transport import Transport

Object = dict[str, Any]
"""An object of an API server."""

# Objects of a page of a list.
_PAGE = 500
# A row of a table has a hundred bytes.
_PAGE_OF_NAMES = 5000
# A list begins again when the server no longer has the version at which it began: after minutes.
_MOST_BEGINNINGS = 3
_JSON = {"Content-Type": "application/json"}
_APPLY = {"Content-Type": "application/apply-patch+yaml"}  # JSON is YAML
# Without this the server would send the whole object back.
_METADATA_ONLY = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
_TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}


class KubernetesClient:
    """A client of one API server; `cluster` names it in metrics and errors."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._types: dict[tuple[str, str], ResourceType] = {}

    @classmethod
    def open(cls, read_access: ReadAccess, *, cluster: str = "", user_agent: str = "flyteplane") -> Self:
        """Return a client with the credentials that `read_access` reads; raise its OSError or ValueError."""
        return cls(Transport(read_access, cluster, user_agent))

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def check(self) -> None:
        """Raise a ServiceError unless the server is ready; permissions do not matter."""
        with suppress(PermissionDenied, Unauthenticated):
            await self._transport.request("GET", "/readyz")

    async def create(
        self,
        resource: ResourceType,
        namespace: str,
        content: Mapping[str, Any] | bytes,
        *,
        field_manager: str = "flyteplane",
        dry_run: bool = False,
    ) -> None:
        """Create an object.

        Args:
            resource: its type.
            namespace: its namespace; ignored for types without namespaces.
            content: the object, or its JSON.
            field_manager: the owner of its fields.
            dry_run: whether the server checks the object and does not store it.

        Raises:
            AlreadyExists: There is an object of this name.
            NotFound: The namespace or the type does not exist.
            TooLarge: The object is larger than the server accepts.
            PermissionDenied: Permissions or a quota forbid it, or the namespace is being deleted.
            InvalidArgument: The server does not accept the object.
        """
        await self._transport.request(
            "POST",
            resource.path(namespace),
            parameters=_write_parameters(field_manager, dry_run=dry_run),
            content=_encoded(content),
            headers={**_JSON, **_METADATA_ONLY},
        )

    async def get(self, resource: ResourceType, namespace: str, name: str) -> Object:
        """Return an object; raise NotFound."""
        return _decoded(await self._transport.request("GET", resource.path(namespace, name)))

    async def delete(
        self, resource: ResourceType, namespace: str, name: str, *, uid: str = "", propagation: str = "Background"
    ) -> None:
        """Delete an object.

        Args:
            resource: its type.
            namespace: its namespace.
            name: its name.
            uid: the object's uid, so that no other object of its name is deleted.
            propagation: what becomes of objects that it owns.

        Raises:
            NotFound: There is no such object.
            Aborted: The object of this name has another uid.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._transport.request(
            "DELETE", resource.path(namespace, name), content=_encoded(options), headers={**_JSON, **_METADATA_ONLY}
        )

    async def apply(
        self,
        resource: ResourceType,
        namespace: str,
        content: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool = False,
        dry_run: bool = False,
    ) -> Object:
        """Apply an object on the server's side: create it, or make its fields of `field_manager` those of `content`.

        Args:
            resource: its type.
            namespace: its namespace; ignored for types without namespaces.
            content: the fields, with `metadata.name`.
            field_manager: the owner of the fields. Fields that it applied before and that are missing now are removed.
            force: whether it takes over fields that others own; otherwise they are a conflict.
            dry_run: whether the server only checks.

        Returns:
            The object after it.

        Raises:
            Aborted: Others own some of the fields.
        """
        parameters = _write_parameters(field_manager, dry_run=dry_run)
        if force:
            parameters["force"] = "true"
        path = resource.path(namespace, str(content["metadata"]["name"]))
        body = await self._transport.request(
            "PATCH", path, parameters=parameters, content=_encoded(content), headers=_APPLY
        )
        return _decoded(body)

    async def list(
        self, resource: ResourceType, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Object]:
        """Yield the objects of a namespace, or of all, page by page.

        Args:
            resource: their type.
            namespace: their namespace; empty for all.
            labels: a label selector.
            fields: a field selector.

        Raises:
            OutOfRange: The list took longer than the server keeps its version.
        """
        selectors = _selectors(labels, fields)
        token = ""
        while True:
            page = await self._page(resource, namespace, {**selectors, "limit": str(_PAGE)}, token, {})
            for item in page.get("items") or ():
                yield item
            token = _next_token(page)
            if not token:
                return

    async def names(self, resource: ResourceType, namespace: str, *, labels: str = "") -> set[str]:
        """Return the names of the objects of a namespace; the server sends a table without the objects.

        Raises:
            Unavailable: The list could not be completed.
        """
        parameters = {**_selectors(labels, ""), "includeObject": "None", "limit": str(_PAGE_OF_NAMES)}
        for _ in range(_MOST_BEGINNINGS):
            try:
                return await self._all_names(resource, namespace, parameters)
            except OutOfRange:
                continue
        raise Unavailable(f"the list of {resource.plural} in {namespace} expires again and again")

    async def _all_names(self, resource: ResourceType, namespace: str, parameters: Mapping[str, str]) -> set[str]:
        found: set[str] = set()
        token = ""
        while True:
            table = await self._page(resource, namespace, parameters, token, _TABLE)
            position = [column["format"] for column in table["columnDefinitions"]].index("name")
            found.update(str(row["cells"][position]) for row in table.get("rows") or ())
            token = _next_token(table)
            if not token:
                return found

    async def _page(
        self,
        resource: ResourceType,
        namespace: str,
        parameters: Mapping[str, str],
        token: str,
        headers: Mapping[str, str],
    ) -> Object:
        query = {**parameters, **({"continue": token} if token else {})}
        path = resource.path(namespace)
        return _decoded(await self._transport.request("GET", path, parameters=query, headers=headers))

    async def resource_type(self, api_version: str, kind: str) -> ResourceType:
        """Return the type of objects with this apiVersion and kind, by API discovery; raise NotFound."""
        if (api_version, kind) not in self._types:
            await self._discover(api_version)
        if (api_version, kind) not in self._types:
            raise NotFound(f"the API server has no {kind} of {api_version}")
        return self._types[api_version, kind]

    async def _discover(self, api_version: str) -> None:
        try:
            found = _decoded(await self._transport.request("GET", group_path(api_version)))
        except NotFound as error:
            raise NotFound(f"the API server has no {api_version}") from error
        group, _, version = api_version.rpartition("/")
        for item in found.get("resources") or ():
            if "/" not in item["name"]:  # of a sub-resource
                self._types[api_version, item["kind"]] = ResourceType(
                    group, version, item["name"], item["kind"], namespaced=bool(item.get("namespaced"))
                )


def _write_parameters(field_manager: str, *, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": field_manager, **({"dryRun": "All"} if dry_run else {})}


def _selectors(labels: str, fields: str) -> dict[str, str]:
    given = {"labelSelector": labels, "fieldSelector": fields}
    return {parameter: selector for parameter, selector in given.items() if selector}


def _next_token(page: Mapping[str, Any]) -> str:
    return str(page.get("metadata", {}).get("continue") or "")


def _encoded(content: Mapping[str, Any] | bytes) -> bytes:
    if isinstance(content, bytes):
        return content
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _decoded(body: bytes) -> Object:
    decoded: Object = json.loads(body)
    return decoded
