"""The programs between users and vLLM: the gateway, and the syncer that keeps vLLM's adapters as they should be.

Read in this order: ``desired`` (what is to be served), ``routing`` (what is served now), ``live`` (its traffic counts),
``keys`` and ``limits`` (who may ask, and how much), ``requests`` and ``outcomes`` (what may be asked and reported),
``connections`` (what a socket may cost), ``exchange`` and ``app`` (one request from its arrival to its end),
``capture``, ``answers`` and ``redaction`` (what is kept of it, if anything is), ``main`` (start-up); then ``syncer``.
"""

__version__ = "0.1.0-alpha.2"
