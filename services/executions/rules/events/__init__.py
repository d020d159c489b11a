"""What an event makes of the stored state: pure, in the order of events.md sections 2, 3 and 4.

`batch` takes a whole batch through `workflow`, `node` and `task`, each of which folds one event into one stored state
or raises the verdict. Which phase may follow which is data, in `transitions`.
"""
