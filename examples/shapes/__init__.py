"""Every shape that flytekit gives a task, a workflow or a launch plan, small; to be registered, not as an introduction.

`pyflyte register -p flytesnacks -d development --version v1 shapes`, typed one folder up. `references` refers to the
entities of `first_session/report.py` in version v1, so register that first.
"""
