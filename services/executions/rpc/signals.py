"""Signals: what a gate of a workflow waits for, and whoever answers it (executions.md section 10)."""

from flyteidl.admin.signal_pb2 import (
    Signal,
    SignalGetOrCreateRequest,
    SignalList,
    SignalListRequest,
    SignalSetRequest,
    SignalSetResponse,
)
from flyteidl.core.identifier_pb2 import SignalIdentifier
from flyteidl.core.literals_pb2 import Literal
from flyteidl.core.types_pb2 import LiteralType

from services.executions.rules import signals as rules
from services.executions.store import signals as store
from services.kit.db.database import Database
from services.kit.rpc.table import Call


class SignalHandlers:
    """The RPCs of SignalService. An execution need not be known here: its engine asks for its signals."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetOrCreateSignal(self, request: SignalGetOrCreateRequest, _call: Call) -> Signal:
        """Answer a signal, made at the first call; engines ask once a round for each gate.

        The type of one that is there stays, whatever is asked for.
        """
        rules.check_wanted(request)
        identifier = request.id
        async with self._db.read() as connection:
            found = await store.get(connection, identifier)
            if found is None:
                await store.create(connection, identifier, request.type.SerializeToString())
                found = await store.get(connection, identifier)
        if found is None:
            raise rules.unknown(identifier)
        return _signal(identifier, found)

    async def ListSignals(self, request: SignalListRequest, _call: Call) -> SignalList:
        """Answer a page of an execution's signals with their values."""
        rules.check_listed(request)
        plan = store.LISTING.plan(
            name="ListSignals",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        execution = request.workflow_execution_id
        async with self._db.read() as connection:
            found = await store.find(connection, plan, execution)
        signals = [_signal(SignalIdentifier(signal_id=one.signal_id, execution_id=execution), one) for one in found]
        return SignalList(signals=signals, token=plan.next_token(len(found), cut=found.cut))

    async def SetSignal(self, request: SignalSetRequest, _call: Call) -> SignalSetResponse:
        """Answer a gate; a value that it has not taken yet gives way. InvalidArgument for a signal nobody asked for."""
        rules.check_set(request)
        async with self._db.transaction() as connection:
            found = await store.lock(connection, request.id)
            if found is None:
                raise rules.unknown(request.id)
            rules.check_fits(request.value, LiteralType.FromString(found.type))
            await store.set_value(connection, request.id, request.value.SerializeToString())
        return SignalSetResponse()


def _signal(identifier: SignalIdentifier, stored: store.StoredSignal) -> Signal:
    execution = identifier.execution_id
    signal = Signal(id=SignalIdentifier(signal_id=identifier.signal_id), type=LiteralType.FromString(stored.type))
    told = signal.id.execution_id
    told.project, told.domain, told.name = execution.project, execution.domain, execution.name
    if stored.value is not None:
        signal.value.CopyFrom(Literal.FromString(stored.value))
    return signal
