"""Events: what the engine reports, taken in fast and never lost.

Owns: the way of an event from the engine's call to the executions service; the log of every event received, when, and
what became of it; events that were refused, with the reason.

Serves: CreateWorkflowEvent, CreateNodeEvent, CreateTaskEvent.

Says: batches of events, one message each (`services.contracts.event_batches`).

Hears: its own batches, for the log; the verdicts of each batch; which events were refused.

Shows: `python -m services.events log`, `refused` and `replay` (docs/decisions/0008-event-log.md).
"""
