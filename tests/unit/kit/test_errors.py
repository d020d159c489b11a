"""Errors are the same after serialization."""

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


@pytest.mark.parametrize("character", ["x", "ü", "語"])
def test_a_long_text_is_cut_at_a_character_and_keeps_its_details(character: str) -> None:
    status = errors.to_status(errors.InvalidArgument(character * 40_000, StringValue(value="detail")))
    assert errors.MAX_MESSAGE_BYTES - 3 < len(status.message.encode()) <= errors.MAX_MESSAGE_BYTES
    assert set(status.message) == {character}
    assert len(status.details) == 1


def test_a_detail_of_an_unknown_type_is_left_out() -> None:
    status = errors.to_status(errors.NotFound("gone", StringValue(value="known")))
    status.details.add(type_url="type.googleapis.com/unknown.Type", value=b"x")
    assert errors.from_status(status).details == (StringValue(value="known"),)


def test_a_code_without_a_class_is_internal() -> None:
    assert type(errors.from_status(Status(code=2, message="?"))) is errors.Internal
