"""The checks before anything is spent: ``distillery validate``, ``distillery run`` and stage prepare make them.

- inspect: runs the plug-ins that a run names: builds the environment, counts its splits
- probe: the same in a process of its own, for the command line
- facts: the findings, as plain data
- checks: the rules, pure: facts in, problems out
- endpoints: one chat completion for each endpoint
- trial: one task played, to be looked at
"""
