"""GCC 12's own tests, built for Windows and run on the whole stack: `python -m gcc.table` fills the page.

`sources.py` fetches them and a compiler, `cases.py` reads what each test asks for, `suite.py` builds and
runs, `table.py` writes docs/gcc-tests.md.
"""
