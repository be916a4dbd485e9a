"""A simulated shop: believable shoppers whose true tastes are known.

:func:`simulate` yields a file's worth of canonical events; :class:`Shop` does the same step by step and
reacts to published decisions, so that a closed loop can be judged against the truth.
:func:`catalogue` and :func:`offers` are the reference data of the same shop.
Everything is drawn from Philox streams keyed by the seed: the same calls give the same bytes.
"""

from __future__ import annotations

from stream.simulating.goods import catalogue, offers
from stream.simulating.shop import Shop, simulate

__all__ = ["Shop", "catalogue", "offers", "simulate"]
