"""The programs between users and vLLM: the gateway, and the syncer that keeps vLLM's adapters up to date.

main, settings      start-up, and the settings from environment variables
refresh             the tasks that keep keys, routing document and loaded models up to date
connections, auth   the limits of sockets, and the keys of clients with their limits
proxy               one request from its arrival to its end
routing             the target of each request, and the traffic counts
capture             records of sessions, redacted, for the recorder
syncer              the second program
"""

__version__ = "0.1.0-alpha.2"
