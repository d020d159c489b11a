"""The events service: receives what engines report, quickly and without losing any.

Owns: the path of an event from the engine's call to the executions service; the log of all events applied, with their
times and verdicts; refused events, with the reasons.

Serves: CreateWorkflowEvent, CreateNodeEvent, CreateTaskEvent.

Publishes: batches of events, one message each (`services.contracts.event_batches`).

Sends service requests: to executions, for the batches that it has applied, for the log.

Receives: the verdicts of its batches; announcements of refused events.

Commands: `python -m services.events log`, `refused` and `replay` (docs/decisions/0008-event-log.md).
"""
