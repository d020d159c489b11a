"""Errors are the same after serialization."""

import base64
import re
from urllib.parse import quote

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.status_pb2 import Status

from services.kit import errors

ALL = errors.ServiceError.__subclasses__()


def test_every_code_but_ok_and_unknown_has_a_class_of_its_own() -> None:
    assert {cls.code for cls in ALL} == set(errors.Code) - {errors.Code.OK, errors.Code.UNKNOWN}


@pytest.mark.parametrize("cls", ALL)
def test_an_error_survives_the_wire(cls: type[errors.ServiceError]) -> None:
    sent = cls("task ünïcode", StringValue(value="detail"))
    back = errors.from_status(Status.FromString(errors.to_status(sent).SerializeToString()))
    assert type(back) is cls
    assert back.message == "task ünïcode"
    assert back.details == (StringValue(value="detail"),)


# What gRPC's clients accept of header fields, without 1 KiB for all others.
RECEIVED_BYTES = 7 * 1024
PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def field_bytes(status: Status) -> int:
    """Return the bytes of the header fields of a status."""
    message = len(quote(status.message, safe=PRINTABLE))
    return message + len(base64.b64encode(status.SerializeToString()).rstrip(b"=")) if status.details else message


@pytest.mark.parametrize("character", ["x", "%", "\n", "ü", "語", "🍲"])
@pytest.mark.parametrize("details", [(), (StringValue(value="y" * 1200),)], ids=["plain", "with a detail"])
def test_a_long_text_keeps_both_ends_and_its_details(character: str, details: tuple[StringValue, ...]) -> None:
    message = f"bad value '{character * 40_000}': it is no pattern"
    status = errors.to_status(errors.InvalidArgument(message, *details))
    assert RECEIVED_BYTES - 100 < field_bytes(status) <= RECEIVED_BYTES
    match = re.fullmatch(
        r"(bad value .*) \.\.\. \((\d+) characters left out\) \.\.\. (.*: it is no pattern)", status.message, re.DOTALL
    )
    assert match is not None
    begin, left_out, end = match.groups()
    assert message == begin + character * int(left_out) + end
    assert errors.from_status(status).details == details


@pytest.mark.parametrize("character", ["x", "%", "ü", "語", "🍲"])
def test_a_text_is_kept_as_long_as_it_is_received(character: str) -> None:
    most = RECEIVED_BYTES // len(quote(character, safe=PRINTABLE))
    assert errors.to_status(errors.NotFound(character * most)).message == character * most
    assert "left out" in errors.to_status(errors.NotFound(character * (most + 1))).message


def test_a_detail_of_an_unknown_type_is_left_out() -> None:
    status = errors.to_status(errors.NotFound("gone", StringValue(value="known")))
    status.details.add(type_url="type.googleapis.com/unknown.Type", value=b"x")
    assert errors.from_status(status).details == (StringValue(value="known"),)


def test_a_code_without_a_class_is_internal() -> None:
    assert type(errors.from_status(Status(code=2, message="?"))) is errors.Internal
