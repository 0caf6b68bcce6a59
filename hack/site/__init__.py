"""The documentation site: docs/, staged, built by Zensical, and checked. ``make docs`` runs it.

    build/docs-venv/bin/python -m hack.site

It needs Zensical and the standard library alone, so that nobody has to install the product to build its documentation.
"""
