"""The state machine of one execution: from inputs to actions, without I/O, clock or randomness.

`interface` has what goes in and what comes out; `execution.Execution` is the state machine. The same inputs, with the
same times, always give the same actions, so a journal of the inputs is enough to resume an execution after a restart
(`journal`).
"""
