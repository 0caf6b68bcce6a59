"""The generator of docs/reference/: one module and one pure function a page, each read from the code that defines it.

    .venv/bin/python -m hack.reference            write the pages; ``make reference``
    .venv/bin/python -m hack.reference --check    fail where a page is stale; part of ``make check``
"""
