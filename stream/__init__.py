"""The processor. Start reading at ``stream/core/engine.py``: it shows the whole flow on one screen.

``bytes -> decode -> clean -> profile -> attribute -> learn -> recommend -> offer -> campaign -> encode``

Bytes exist only at the two ends; Kafka exists only in ``stream.runtime``.
"""
