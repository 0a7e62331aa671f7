"""Wine's own tests of ntdll and kernel32, built from Debian's Wine source and run on our kernel.

What they expect was checked on Windows by Wine's authors; `stock.toml` has what fails on stock Wine of the
same version, in the same environment as ours. A check that fails here and not there is our bug.
"""
