"""Encoded fields parse as their messages."""

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from hypothesis import given
from hypothesis import strategies as st

from services.kit.protobuf import wire


@given(st.text(), st.lists(st.binary(max_size=300)))
def test_concatenated_fields_parse_as_the_message(name: str, options: list[bytes]) -> None:
    encoded = wire.string_field(FileDescriptorProto.NAME_FIELD_NUMBER, name) + b"".join(
        wire.message_field(FileDescriptorProto.DEPENDENCY_FIELD_NUMBER, option.hex().encode()) for option in options
    )
    parsed = FileDescriptorProto.FromString(encoded)
    assert parsed.name == name
    assert list(parsed.dependency) == [option.hex() for option in options]


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_a_number_parses_as_itself(value: int) -> None:
    encoded = wire.enum_field(FieldDescriptorProto.NUMBER_FIELD_NUMBER, value)
    assert FieldDescriptorProto.FromString(encoded).number == value
