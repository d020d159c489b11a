"""The gateway: one door for gRPC, REST and gRPC-Web, which is Envoy with a configuration made here.

Owns: `routes.toml`, the only table that says which service answers which method.
Serves: everything a Flyte client can ask, on one address. It runs none of our code: `python -m gateway render` (or
`gateway.render.render`) writes a folder of files, and Envoy runs on them.
Says and hears nothing; it keeps no state.

The rooms, from the table to the files:

    routes.toml > routes        who owns each method, checked against the installed flyteidl
    descriptors                 the four descriptor sets and the list of REST patterns, from the same flyteidl
    lua/                        what Envoy's transcoder cannot do by itself, for REST requests only; what pages may do
    limits                      what strangers may use up
    clusters, filters, routing, bootstrap   Envoy's configuration as plain data
    render                      all of it as files in a folder
"""
