"""The generator of docs/reference/: one module and one pure function a page, each read from the code that defines it.

``python -m hack.reference`` writes the pages, and ``make reference`` runs it. With ``--check`` it fails where a page is
stale, as a part of ``make check``.
"""
