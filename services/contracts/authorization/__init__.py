"""Authorisation: who may call which RPC, in which projects and domains (docs/authorization.md#roles).

`methods` has the role that each RPC needs and where, `policy` the file that binds roles to callers, `references` the
other project-domains that a request names, and `authorizer` decides on a call by all three.
"""
