"""Environments that somebody serves by the OpenEnv protocol: what can be chosen, the client, the plug-in."""
