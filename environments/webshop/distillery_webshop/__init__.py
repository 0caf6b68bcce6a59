"""WebShop: shopping by instruction in a shop of text pages, rebuilt from its published behavior without its stack.

- environment: the plug-in: options, catalog, sessions
- session: one instruction being shopped for; above pages (the texts), actions and reward
- reward: the worth of a purchase; above ``colors`` and nouns
- compiled_shop: the compiled shop that all worker processes share; above records (files mapped into memory) and search
- compilation: from the original's files to the compiled shop; above datafiles, jsonstream, products and goals
- search: BM25 as Lucene ranks; above analysis (Lucene's analysis of English)
- generator: our own products and instructions, for users without WebShop's; above ``product_types``
- facts: the facts that the extractor `rules` reads from an episode's text
- prompts: the instructions for agents, and worked examples

The behavior is that of princeton-nlp/WebShop at 64fa2a5; where this one differs, the module that does says so.
"""

__version__ = "0.1.0-alpha.2"
