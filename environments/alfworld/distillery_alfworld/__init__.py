"""ALFWorld: household tasks as text games, played by the engine that the papers used, without its repeated work.

- environment: the plug-in: options, catalog, sessions
- games: game files, in ALFWorld's own layout
- engine: one game being played; below it grammar (texts), planner (states), translation (PDDL to SAS) and
  ``pddl_reader``
- actions: the cleaning of an agent's command before the engine reads it
- facts: the facts that the extractor `rules` reads from an episode's text
- prompts: the instructions for agents, and worked examples
- generated_games: our own games, for users without ALFWorld's; below it ``game_generator``, layouts, preferences,
  ``pddl_writer`` and ``alfworld_assets``
"""

__version__ = "0.1.0-alpha.2"
