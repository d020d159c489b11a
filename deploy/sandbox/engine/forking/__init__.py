"""The fork server: starts every attempt of a task as a fork of a process of the tasks' Python.

`server` is a script of that Python, so the modules of this package use the standard library and flytekit only.
"""
