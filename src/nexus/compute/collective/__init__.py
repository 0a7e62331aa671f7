"""The GPUs of one machine as one device: a process for each, which exchange data by torch.distributed.

    with nexus.compute.engine(together=True) as engine:
        c = engine.matmul(a, b)

A product is split in one of two ways. By rows, the second operand goes to one GPU and is broadcast from
there to the others. By depth, when there is more depth than rows, each GPU multiplies its part of the columns
of `a` by its part of the rows of `b`, and the partial products are added up between the GPUs. Between CUDA
devices NCCL does that, between processors gloo (which is how the tests run the same code).

`group` is the collectives, `rank` the program of one process, `processes` starts and ends them, `device` is
the group as a device of the scheduler. torch is imported in the ranks only.
"""
