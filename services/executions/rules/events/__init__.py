"""Pure rules that fold events into stored state.

`batch` folds a whole batch by `workflow`, `node` and `task`; each of them folds one event into one stored state or
raises the error that refuses it. The allowed transitions of phases are data, in `transitions`.
"""
