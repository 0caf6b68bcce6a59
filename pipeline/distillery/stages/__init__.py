"""The stages of the loop, each a runnable module: ``python -m distillery.stages.NAME CONFIG``.

A stage reads one config document, writes rows to Postgres and an artifact to the store, its manifest last. It can be
killed at any instant and started again. Exit codes: 0 done; 78 trying again is pointless; 143 stopped on request,
resumes at the next start; anything else may be tried again.
"""
