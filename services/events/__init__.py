"""Events: what the engine reports, taken in fast and never lost.

Owns: the way of an event from the engine's call to the executions service; events that were refused, with the reason.

Serves: CreateWorkflowEvent, CreateNodeEvent, CreateTaskEvent.

Says: batches of events, one message each (`services.contracts.event_batches`).

Hears: the verdicts of each batch; which events were refused.
"""
