"""flyteidl for Envoy's transcoder: four descriptor sets and the REST patterns.

Envoy's gRPC-JSON transcoder reads and writes JSON only, and lets a request body win over the path. flyteadmin also
reads and writes binary, and lets the path win (gateway.md#choice-of-forms, gateway.md#bodies). Flyteplane changes the
descriptors instead of the transcoder (docs/decisions/0002-rest-by-four-descriptor-sets.md):

* reply BINARY: every response type becomes google.api.HttpBody, which the transcoder passes through as it is.
  `lua/inner.lua` wraps the real message.
* body BINARY: a body arrives as HttpBody in an extra field of the request, `BODY_FIELD`. `lua/inner.lua` puts the
  bytes in front of the fields that came from the path, and protobuf's merging lets the path win.
* body JSON: the same with the request's own type, and only where the path has variables.

No protoc takes part: the installed modules carry their descriptors.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flyteidl.event import event_pb2
from flyteidl.service import admin_pb2, auth_pb2, dataproxy_pb2, identity_pb2, signal_pb2
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.rpc import error_details_pb2, status_pb2

# The extra field's number: far above any that flyteidl uses, below protobuf's reserved 19000; also in `lua/inner.lua`.
BODY_FIELD = 15999
BODY_NAME = "rest_body"

HTTP_BODY_TYPE = ".google.api.HttpBody"
HTTP_BODY_FILE = "google/api/httpbody.proto"

SERVICE_MODULES = (admin_pb2, auth_pb2, identity_pb2, dataproxy_pb2, signal_pb2)
SERVICES = tuple(
    service.full_name for module in SERVICE_MODULES for service in module.DESCRIPTOR.services_by_name.values()
)

# The services, and every message that can be an error's detail: with an unknown one the transcoder cannot write the
# error (gateway.md#rest-errors).
MODULES = (*SERVICE_MODULES, event_pb2, status_pb2, error_details_pb2, httpbody_pb2)


class Form(StrEnum):
    """How a REST message is written."""

    JSON = "json"
    BINARY = "bin"


FORMS = tuple(itertools.product(Form, Form))


@dataclass(frozen=True)
class Pattern:
    """One way to reach a method over REST."""

    method: str  # package.Service/Method
    verb: str
    path: str  # as in flyteidl: /api/v1/projects/{id}
    has_body: bool

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the fields that the path binds, in their proto spelling."""
        return tuple(re.findall(r"{([^}]*)}", self.path))

    @property
    def shape(self) -> str:
        """Return the path with `*` for every variable."""
        return re.sub(r"{[^}]*}", "*", self.path)


def methods() -> frozenset[str]:
    """Return every method of the five Flyte services as `package.Service/Method`."""
    return frozenset(
        f"{service.full_name}/{method.name}"
        for module in SERVICE_MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    )


def rest_patterns() -> tuple[Pattern, ...]:
    """Return every REST pattern of the five Flyte services, additional bindings included (gateway.md#rest-paths)."""
    return tuple(
        Pattern(f"{service.full_name}/{method.name}", verb.upper(), getattr(rule, verb), rule.body == "*")
        for module in SERVICE_MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for first in [method.GetOptions().Extensions[annotations_pb2.http]]
        for rule in (first, *first.additional_bindings)
        if (verb := rule.WhichOneof("pattern"))
    )


def descriptor_set(body: Form, reply: Form) -> FileDescriptorSet:
    """Return flyteidl's descriptors, changed for REST requests with this form of body and this form of reply."""
    files = _installed_files()
    messages = {f".{file.package}.{message.name}": (file, message) for file in files for message in file.message_type}
    for file in files:
        for method in _rest_methods(file):
            options: Any = method.options  # the option's module has no types
            rule: http_pb2.HttpRule = options.Extensions[annotations_pb2.http]
            if rule.body == "*" and (body is Form.BINARY or "{" in _path(rule)):
                method.input_type = _with_body_field(*messages[method.input_type], body)
                rule.body = BODY_NAME
            if reply is Form.BINARY:
                method.output_type = HTTP_BODY_TYPE
                _import_http_body(file)
    return FileDescriptorSet(file=_imports_first(files))


def _installed_files() -> list[FileDescriptorProto]:
    """Return a copy of every file that the modules need."""
    files: dict[str, FileDescriptorProto] = {}

    def add(descriptor: FileDescriptor) -> None:
        if descriptor.name not in files:
            files[descriptor.name] = copy = FileDescriptorProto()
            descriptor.CopyToProto(copy)
            for dependency in descriptor.dependencies:
                add(dependency)

    for module in MODULES:
        add(module.DESCRIPTOR)
    return list(files.values())


def _rest_methods(file: FileDescriptorProto) -> Iterator[MethodDescriptorProto]:
    for service in file.service:
        if f"{file.package}.{service.name}" in SERVICES:
            yield from service.method


def _path(rule: http_pb2.HttpRule) -> str:
    verb = rule.WhichOneof("pattern")
    return str(getattr(rule, verb)) if verb else ""


def _with_body_field(file: FileDescriptorProto, message: DescriptorProto, body: Form) -> str:
    """Add a copy of a request message with the extra field to the message's file; return the copy's full name.

    The copy must be in the same file: Envoy's descriptor pool is stricter than Python's and requires that the field's
    own file imports every type that the field names.
    """
    original, name = f".{file.package}.{message.name}", f"{message.name}Rest"
    full_name = f".{file.package}.{name}"
    if any(other.name == name for other in file.message_type):
        return full_name
    copy = file.message_type.add()
    copy.CopyFrom(message)
    copy.name = name
    for field in copy.field:  # nested types, such as map entries, were copied with their message
        if field.type_name.startswith(f"{original}."):
            field.type_name = full_name + field.type_name.removeprefix(original)
    copy.field.add(
        name=BODY_NAME,
        json_name="restBody",
        number=BODY_FIELD,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=HTTP_BODY_TYPE if body is Form.BINARY else original,
    )
    if body is Form.BINARY:
        _import_http_body(file)
    return full_name


def _import_http_body(file: FileDescriptorProto) -> None:
    if HTTP_BODY_FILE not in file.dependency:
        file.dependency.append(HTTP_BODY_FILE)


def _imports_first(files: list[FileDescriptorProto]) -> list[FileDescriptorProto]:
    """Return the files, each after those it imports, as Envoy reads them."""
    by_name = {file.name: file for file in files}
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name not in ordered:
            for dependency in by_name[name].dependency:
                add(dependency)
            ordered[name] = by_name[name]

    for file in files:
        add(file.name)
    return list(ordered.values())
