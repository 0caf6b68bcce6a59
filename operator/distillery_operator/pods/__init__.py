"""The answers of pods: reports of workers, gateways and recorders, none of them trusted."""
