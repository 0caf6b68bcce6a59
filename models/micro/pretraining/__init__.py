"""Pre-training of Distillery's demonstration model on expert play in random rooms.

Read in this order: ``vocabulary`` (what a token is), ``simulator`` (the game), ``rooms`` (random rooms and hints),
``expert`` (how to play them), ``demonstrations`` (play as token sequences), ``decisions`` (what is measured),
``model`` (architecture and initialization), ``train`` (the run). Each imports only from those before it.
"""
