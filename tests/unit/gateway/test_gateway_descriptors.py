"""The four descriptor sets are complete and changed as the scripts need, and the REST patterns are flyteidl's."""

import pytest
from flyteidl.admin import project_attributes_pb2
from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from gateway import descriptors
from gateway.descriptors import Form

UPDATE_PROJECT_ATTRIBUTES = "flyteidl.admin.ProjectAttributesUpdateRequest"


def pool_of(file_set: FileDescriptorSet) -> DescriptorPool:
    pool = DescriptorPool()
    for file in file_set.file:
        pool.Add(file)  # raises when an import comes later
    return pool


@pytest.mark.parametrize(("body", "reply"), descriptors.FORMS)
def test_descriptor_set_has_every_method(body: Form, reply: Form) -> None:
    pool = pool_of(descriptors.descriptor_set(body, reply))
    services = [pool.FindServiceByName(service) for service in descriptors.SERVICES]
    assert sum(len(service.methods) for service in services) == len(descriptors.methods())


@pytest.mark.parametrize(("body", "reply"), descriptors.FORMS)
def test_type_of_every_field_is_imported_by_the_fields_file(body: Form, reply: Form) -> None:
    file_set = descriptors.descriptor_set(body, reply)
    home = {f".{file.package}.{message.name}": file.name for file in file_set.file for message in file.message_type}
    for file in file_set.file:
        named = {field.type_name for message in file.message_type for field in message.field if field.type_name}
        for type_name in named & home.keys():
            assert home[type_name] in (file.name, *public_imports(file_set, file.name)), (file.name, type_name)


def public_imports(file_set: FileDescriptorSet, name: str) -> list[str]:
    file = next(file for file in file_set.file if file.name == name)
    imported = list(file.dependency)
    for dependency in file.dependency:
        other = next(file for file in file_set.file if file.name == dependency)
        imported += [other.dependency[index] for index in other.public_dependency]
    return imported


@pytest.mark.parametrize("body", Form)
def test_binary_reply_of_every_method_is_an_http_body(body: Form) -> None:
    pool = pool_of(descriptors.descriptor_set(body, Form.BINARY))
    for name in descriptors.SERVICES:
        for method in pool.FindServiceByName(name).methods:
            assert method.output_type.full_name == "google.api.HttpBody", method.full_name


@pytest.mark.parametrize(("body", "reply"), descriptors.FORMS)
def test_body_is_in_the_extra_field_when_it_is_binary_or_the_path_has_variables(body: Form, reply: Form) -> None:
    pool = pool_of(descriptors.descriptor_set(body, reply))
    for pattern in descriptors.rest_patterns():
        field = input_of(pool, pattern).fields_by_name.get(descriptors.BODY_NAME)
        expected = pattern.has_body and (body is Form.BINARY or bool(pattern.variables))
        assert (field is not None) == expected, pattern
        if field:
            assert field.message_type
            assert (field.message_type.full_name == "google.api.HttpBody") == (body is Form.BINARY)


def input_of(pool: DescriptorPool, pattern: descriptors.Pattern) -> Descriptor:
    service, _, name = pattern.method.partition("/")
    input_type: Descriptor = pool.FindServiceByName(service).methods_by_name[name].input_type
    return input_type


def test_changed_request_reads_the_bytes_of_the_original() -> None:
    pool = pool_of(descriptors.descriptor_set(Form.JSON, Form.JSON))
    changed_class = GetMessageClass(pool.FindMessageTypeByName(f"{UPDATE_PROJECT_ATTRIBUTES}Rest"))
    original = project_attributes_pb2.ProjectAttributesUpdateRequest()
    original.attributes.project = "p"
    original.attributes.matching_attributes.cluster_resource_attributes.attributes["cpu"] = "2"
    assert changed_class.FromString(original.SerializeToString()).SerializeToString() == original.SerializeToString()


def test_installed_descriptors_stay_unchanged() -> None:
    descriptors.descriptor_set(Form.BINARY, Form.BINARY)
    method = descriptors.SERVICE_MODULES[0].DESCRIPTOR.services_by_name["AdminService"].methods_by_name["UpdateProject"]
    assert method.input_type.full_name == "flyteidl.admin.Project"
    assert method.GetOptions().Extensions[annotations_pb2.http].body == "*"


def test_extra_field_has_a_number_that_flyteidl_does_not_use() -> None:
    for pattern in descriptors.rest_patterns():
        assert descriptors.BODY_FIELD not in input_of(descriptor_pool.Default(), pattern).fields_by_number


def test_lists_without_a_name_have_patterns_of_their_own() -> None:
    shapes = {pattern.shape for pattern in descriptors.rest_patterns() if pattern.method.endswith("/ListTasks")}
    assert shapes == {"/api/v1/tasks/*/*/*", "/api/v1/tasks/*/*"}


def test_patterns_of_a_verb_have_different_shapes() -> None:
    patterns = [(pattern.verb, pattern.shape) for pattern in descriptors.rest_patterns()]
    assert len(patterns) == len(set(patterns)) == 69
