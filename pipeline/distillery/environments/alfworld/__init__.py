"""ALFWorld: household tasks as text games, played by the engine that the papers used, without its repeated work.

- environment: the plug-in: options, catalogue, sessions
- games: game files, in ALFWorld's own layout
- engine: one game being played; below it grammar (texts), planner (states), translation (PDDL to SAS) and pddl
- actions: how an agent's command is tidied before the engine reads it
- reading: what the miner of hints learns from an episode's text
- prompts: what an agent is told, and worked examples
- generation: our own games, for whoever lacks ALFWorld's; below it generator, rooms, preferences, problem and wheel
"""
