"""WebShop: shopping by instruction in a shop of text pages, rebuilt from its published behaviour without its stack.

- environment: the plug-in: options, catalogue, sessions
- session: one instruction being shopped for; above pages (what is shown), actions and reward
- reward: what a purchase is worth; above colours and nouns
- shop: the compiled shop that all worker processes share; above records (files mapped into memory) and search
- compilation: from the original's files to the compiled shop; above datafiles, jsonstream, products and goals
- search: BM25 as Lucene ranks; above analysis (Lucene's analysis of English)
- generator: our own products and instructions, for whoever lacks WebShop's; above wares
- reading: what the miner of hints learns from an episode's text
- prompts: what an agent is told, and worked examples

The behaviour is that of princeton-nlp/WebShop at 64fa2a5; where this one differs, the module that does says so.
"""
