"""Texts of messages in errors."""

import pytest
from flyteidl.core.identifier_pb2 import Identifier, ResourceType
from flyteidl.core.literals_pb2 import Binary, BindingData, Primitive, Scalar
from flyteidl.core.types_pb2 import EnumType, LiteralType, SimpleType, TypeStructure, UnionType
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from services.contracts.message_text import message_text

INTEGER = LiteralType(simple=SimpleType.INTEGER)
NONE = LiteralType(simple=SimpleType.NONE)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (LiteralType(), ""),
        (INTEGER, "simple:INTEGER"),
        (NONE, "simple:NONE"),
        (LiteralType(simple=77), "simple:77"),  # type: ignore[arg-type]  # from a newer client
        (
            LiteralType(collection_type=LiteralType(map_value_type=NONE)),
            "collection_type:{map_value_type:{simple:NONE}}",
        ),
        (
            LiteralType(union_type=UnionType(variants=[INTEGER, NONE])),
            "union_type:{variants:{simple:INTEGER} variants:{simple:NONE}}",
        ),
        (
            LiteralType(enum_type=EnumType(values=['"a"', "b\n", "ü"])),
            r'enum_type:{values:"\"a\"" values:"b\n" values:"ü"}',
        ),
        (
            LiteralType(structure=TypeStructure(tag="t", dataclass_type={"b": NONE, "a": INTEGER})),
            (
                'structure:{tag:"t" dataclass_type:{key:"a" value:{simple:INTEGER}} '
                'dataclass_type:{key:"b" value:{simple:NONE}}}'
            ),
        ),
        (
            Struct(
                fields={
                    "n": Value(list_value=ListValue(values=[Value(number_value=n) for n in (1, -0.5, 1e30)])),
                    "t": Value(bool_value=True),
                }
            ),
            (
                'fields:{key:"n" value:{list_value:{values:{number_value:1} values:{number_value:-0.5} '
                'values:{number_value:1e+30}}}} fields:{key:"t" value:{bool_value:true}}'
            ),
        ),
        (
            BindingData(scalar=Scalar(primitive=Primitive(integer=0))),
            "scalar:{primitive:{integer:0}}",
        ),
        (Scalar(binary=Binary(value=b"a\xff", tag="msgpack")), r'binary:{value:"a\\xff" tag:"msgpack"}'),
        (
            Identifier(resource_type=ResourceType.TASK, project="p", name="n"),
            'resource_type:TASK project:"p" name:"n"',
        ),
    ],
)
def test_message_text_is_as_go_prints_it(message: Message, text: str) -> None:
    assert message_text(message) == text
