"""The posteriors that the demo shows are the worker's."""

from __future__ import annotations

from stream.assembly import build_models
from stream.console import OfferBelief
from stream.core.features import OFFER_FEATURES
from stream.demo.following import OfferLedger
from stream.settings import Settings


def test_the_ledger_equals_the_model_that_wrote_the_deltas() -> None:
    """After three batches each number is the same, bit for bit; a batch without offers changes nothing."""
    settings = Settings(max_items=256, click_slots=1024)
    models = build_models(settings)
    ledger = OfferLedger(settings)
    context = [1.0] + [0.5] * (len(OFFER_FEATURES) - 1)
    for batch in range(3):
        models.fold.begin()
        for n in range(20):
            models.offers.learn_one(f"offer-{n % 3}", context, float((n + batch) % 4 == 0))
        assert ledger.fold(0, b"0/1", models.fold.delta())
        models.fold.keep()

    models.fold.begin()
    models.blend.observe("p1", [], 1_767_225_600.0, 1.0, repeat=False, memory=b"")
    assert not ledger.fold(0, b"0/1", models.fold.delta())
    models.fold.keep()

    expected = [
        OfferBelief(known.offer, known.mean, known.deviation, known.pulls, known.rewards)
        for known in models.offers.describe()
    ]
    assert 3 == len(expected)
    assert expected == ledger.beliefs()
