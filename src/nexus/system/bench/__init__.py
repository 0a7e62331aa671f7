"""Side by side: the same machine code natively, on our engines and on those of others.

`kernels.py` builds the programs of `bench/kernels`, `worker.py` is the process that calls one of them again
and again on one engine, `contenders.py` has everything that can be measured, `measure.py` measures pairs and
`statistics.py` says what they mean; `table.py` and `chart.py` show it. Read `measure.py` first.
"""
