"""The RPCs about signals, for which gates of workflows wait (executions.md#signalservice)."""

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
from services.kit.lists.pages import connection_for_page
from services.kit.rpc.table import Call


class SignalHandlers:
    """The RPCs of SignalService. The execution of a signal need not exist here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetOrCreateSignal(self, request: SignalGetOrCreateRequest, _call: Call) -> Signal:
        """Return a signal; the first call creates it. Engines call once per round for each gate.

        An existing signal keeps its type, also if the request has another.
        """
        rules.check_get_or_create(request)
        identifier = request.id
        async with self._db.autocommit() as connection:
            row = await store.get(connection, identifier)
            if row is None:
                await store.create(connection, identifier, request.type.SerializeToString())
                row = await store.get(connection, identifier)
        if row is None:
            raise rules.missing(identifier)
        return _signal(identifier, row)

    async def ListSignals(self, request: SignalListRequest, _call: Call) -> SignalList:
        """Return a page of an execution's signals with their values."""
        rules.check_list(request)
        query = store.LISTING.query(
            name="ListSignals",
            limit=request.limit,
            token=request.token,
            filters=request.filters,
            sort_key=request.sort_by.key if request.HasField("sort_by") else None,
            sort_direction=request.sort_by.direction,
        )
        execution = request.workflow_execution_id
        async with connection_for_page(self._db, query) as connection:
            rows = await store.find(connection, query, execution)
        signals = [_signal(SignalIdentifier(signal_id=row.signal_id, execution_id=execution), row) for row in rows]
        return SignalList(signals=signals, token=query.next_token(len(rows), more=rows.more))

    async def SetSignal(self, request: SignalSetRequest, _call: Call) -> SignalSetResponse:
        """Set the value of a signal; it replaces one that the gate has not read yet. Raises InvalidArgument."""
        rules.check_set(request)
        async with self._db.transaction() as connection:
            row = await store.lock(connection, request.id)
            if row is None:
                raise rules.missing(request.id)
            rules.check_fits(request.value, LiteralType.FromString(row.type))
            await store.set_value(connection, request.id, request.value.SerializeToString())
        return SignalSetResponse()


def _signal(identifier: SignalIdentifier, stored: store.StoredSignal) -> Signal:
    execution = identifier.execution_id
    signal = Signal(id=SignalIdentifier(signal_id=identifier.signal_id), type=LiteralType.FromString(stored.type))
    shown = signal.id.execution_id  # without the organisation
    shown.project, shown.domain, shown.name = execution.project, execution.domain, execution.name
    if stored.value is not None:
        signal.value.CopyFrom(Literal.FromString(stored.value))
    return signal
