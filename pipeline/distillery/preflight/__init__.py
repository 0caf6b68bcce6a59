"""What can be known before anything is spent: ``distillery validate``, ``distillery run`` and stage prepare check it.

- inspect: runs the plug-ins that a run names: builds the environment, counts its splits
- probe: the same in a process of its own, for the command line
- facts: what was found out, as plain data
- checks: the rules, pure: facts in, problems out
- endpoints: one chat completion for each endpoint
- trial: one task played, to be looked at
"""
