"""Measurements on this machine, each beside what it is compared with in the same run.

Rows are dictionaries: `what`, the `precision`, and figures whose names end in `_measured`, or in `_peak` when
they are a vendor's. `host` compares with numpy, `split` with an equal split, `gpu` with the vendor's library.
"""
