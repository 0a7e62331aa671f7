"""The compute engine over many machines.

    with nexus.compute.cluster(nodes=4) as engine:                       # four processes here
        c = engine.matmul(a, b)
    with nexus.compute.cluster("tls://head:8786", keys="keys") as engine:    # a real one

A node is a worker of dask.distributed with nexus in it, and a device for the same scheduler that serves the
devices of one machine (`nexus.compute.scheduler`): it gets chunks in proportion to its rate, is given up
when it dies or stalls, and what it returns is checked. Inside, each node runs that scheduler again over its
own devices. dask does transport, encryption, membership and the start of work.

`identity` is what must be equal on all nodes, `keys` who may talk to whom, `parts` which data a chunk
needs, `node` the program on each machine, `membership` the nodes that are there, `device` one of them,
`engine` what a user holds. dask is imported by these modules only.
"""
