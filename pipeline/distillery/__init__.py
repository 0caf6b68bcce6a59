"""Distillery: LLM agents that learn from their failures, continuously.

The package is layered; a module imports only from layers below its own (checked by import-linter):

    cli
    executors                     who runs the stages: this machine, or (in distillery_operator) Kubernetes
    stages                        one runnable module per stage of the loop
    report
    rollouts  hints  training  evaluation  serving
    database  artifacts
    agents
    environments
    planning                      what to do next: pure functions
    api                           what a user writes: the DistillationRun resource

Importing ``api``, ``planning``, ``executors`` or ``cli`` never imports torch.
"""

__version__ = "0.1.0-alpha.2"
