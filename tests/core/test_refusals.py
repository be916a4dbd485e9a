"""Who said no is not written to, whatever else was said, in which order it came, and how it was spelt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.campaigns import CampaignConsent
from schemas.conditions import Condition
from schemas.reasons import SuppressionReason
from stream.core.conditions import Facts, compiled
from stream.core.rows import Profile
from stream.settings import Settings
from stream.testing import EPOCH, Driver, cart_campaign, event

ANSWERS = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.dictionaries(st.integers(0, 60).map(lambda n: f"p{n}"), st.booleans(), min_size=1, max_size=50),
    ),
    max_size=12,
)


def driver(consent: CampaignConsent | None = None) -> Driver:
    """A driver with a cart campaign on two channels, for which silence is consent unless told otherwise."""
    settings = Settings(max_items=256, campaigns={"holdout_share": 0.0, "lateness_s": 0.0})
    asked = consent or CampaignConsent(when_unknown="allow")
    return Driver(settings=settings, campaigns=[cart_campaign(channels=["email", "SMS"], consent=asked)])


def verdict(stream: Driver, at: float = 100.0) -> list[str]:
    """What becomes of the message about a cart that is left then: its channel, or why there is none."""
    stream.pipe(event("Product Added", user="u1", at=at, product_id="p1"))
    stream.advance(86_400.0)
    sent = [trigger.channel for trigger in stream.take("triggers")]
    return sent + [str(d.reason) for d in stream.take("decisions") if d.kind == "suppression"]


@given(ANSWERS)
def test_a_refusal_stands_until_a_later_consent(answers: list[tuple[int, dict[str, bool]]]) -> None:
    """Of every purpose whose last answer by event time was a refusal the profile says so, in bounded room."""
    stream = Driver()
    last: dict[str, tuple[int, bool]] = {}
    for at, purposes in answers:
        stream.pipe(event("Consent Changed", user="u1", at=at, purposes=purposes))
        for purpose, answer in purposes.items():
            # Of one moment the refusal counts: it sorts behind the consent.
            last[purpose] = max(last.get(purpose, (-1, False)), (at, not answer))
    stream.flush()
    profile = stream.engine.state.profile("u1")

    assert set() == {purpose for purpose, (_, refused) in last.items() if refused} - {
        purpose for purpose in last if profile.answer(purpose) is False
    }
    assert len(profile.consent) <= 32


def test_a_refusal_of_everything_is_as_late_as_the_last_that_it_stands_for() -> None:
    """p0 is refused at 20, the others at 10, one of them too many: a consent to p0 from 15 does not count."""
    stream = Driver()
    others = {f"q{n}": False for n in range(32)}
    for at, purposes in ((20, {"p0": False}), (10, others), (15, {"p0": True})):
        stream.pipe(event("Consent Changed", user="u1", at=at, purposes=purposes))
    stream.flush()
    profile = stream.engine.state.profile("u1")

    assert "p0" not in profile.consent
    assert profile.answer("p0") is False


def test_refusing_everything_reaches_models_and_messages() -> None:
    """Forty refusals leave no room for their names: what was not named is refused with them."""
    stream = driver()
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={f"p{n}": False for n in range(40)}))
    stream.flush()
    profile = stream.engine.state.profile("u1")
    assert not profile.lets_learn
    assert profile.answer("personalise") is False
    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream)

    everything, contact = ({name: True} for name in ("*", "contact"))
    stream.pipe(event("Consent Changed", user="u1", at=90_000, purposes=everything))
    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream, at=90_001)
    stream.pipe(event("Consent Changed", user="u1", at=180_000, purposes=contact))
    assert ["email"] == verdict(stream, at=180_001)


def test_a_consent_of_everything_is_none() -> None:
    """Only refusals may be of everything: to agree takes a name."""
    stream = driver(CampaignConsent(when_unknown="deny"))
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={"*": True}))

    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream)


def test_a_purpose_on_a_channel_may_have_two_long_names() -> None:
    """A refusal of purpose:channel is kept whatever a campaign may call the two."""
    purpose = "p" * 64
    stream = driver(CampaignConsent(purpose=purpose, when_unknown="allow"))
    stream.pipe(event("Consent Changed", user="u1", at=0, purposes={f"{purpose}:email": False}))

    assert ["SMS"] == verdict(stream)


@pytest.mark.parametrize("name", ["sms", "SMS", " Sms "])
def test_a_channel_is_known_in_any_case(name: str) -> None:
    """Campaigns and mail systems need not agree on capitals."""
    stream = driver()
    stream.pipe(event("Unsubscribed", user="u1", at=0, channel=name), event("Unsubscribed", user="u1", at=1))

    assert [SuppressionReason.UNSUBSCRIBED.value] == verdict(stream)


def test_an_unsubscription_finds_room_where_others_have_taken_it_all() -> None:
    """After forty other channels the forty-first is left as well; all of them still are."""
    stream = driver()
    names = [*(f"c{n}" for n in range(40)), "email", "sms"]
    stream.pipe(*(event("Unsubscribed", user="u1", at=n, channel=name) for n, name in enumerate(names)))
    stream.flush()
    profile = stream.engine.state.profile("u1")

    assert all(profile.is_unsubscribed(name) for name in names)
    assert len(profile.unsubscribed) <= 16
    assert [SuppressionReason.UNSUBSCRIBED.value] == verdict(stream)


def test_an_audience_of_who_refuses_counts_refusals_of_everything() -> None:
    """A condition on an answer sees what the checks see."""
    test = compiled(Condition(fact="user.consent.letters", is_=False))
    refuses, silent = Profile(consent={"*": False}), Profile()

    assert [True, False] == [test(Facts(profile, 0.0)) for profile in (refuses, silent)]


def test_who_answers_on_a_channel_is_written_to_there() -> None:
    """Opened messages count for a channel whatever its case: SMS goes before the campaign's first."""
    stream = driver()
    stream.pipe(event("Email Opened", user="u1", at=0, channel="Sms"))

    assert ["SMS"] == verdict(stream)


@pytest.mark.parametrize("name", ["Consent Changed", "Order Completed"])
def test_an_answer_from_the_future_does_not_outlive_the_next(name: str) -> None:
    """A device a year ahead grants, a right one refuses an hour later: the later answer is the refusal."""
    stream = driver()
    grant = event(name, user="u1", at=365 * 86_400, context=consent(contact=True))
    stream.pipe(grant, ingest_time=EPOCH)
    stream.pipe(event("Consent Changed", user="u1", at=3600, purposes={"contact": False}))

    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream, at=7200)


@pytest.mark.parametrize(
    ("fields", "fate"),
    [
        ({"name": "Page Loaded", "at": 90_000}, "unknown"),
        ({"name": "Product Viewed", "at": 0, "product_id": "p1"}, "late"),
        ({"name": "Product Viewed", "at": 90_000, "product_id": "p1", "price": -1.0}, "outlier"),
    ],
)
def test_a_refusal_counts_whatever_becomes_of_its_event(fields: dict[str, Any], fate: str) -> None:
    """What is not known, late or odd still tells us of a refusal; it is counted as what it is."""
    stream = driver()
    stream.pipe(event("Product Viewed", user="u2", at=90_000, product_id="p1"))
    name = fields.pop("name")
    stream.pipe(event(name, user="u1", **fields, context=consent(contact=False)))

    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream, at=90_100)
    assert 1 == sum(count for key, count in stream.counts.items() if fate in key)


def test_an_event_that_says_nothing_new_of_consent_stores_nobody() -> None:
    """An unknown event without answers leaves no row, one with an answer leaves one, and is not active."""
    stream = driver()
    stream.pipe(event("Page Loaded", user="u1", at=0))
    stream.pipe(event("Page Loaded", user="u2", at=0, context=consent(contact=True)))
    stream.flush()
    state = stream.engine.state

    assert ["u2"] == state.users()
    assert 0 == state.profile("u2").n_views
    assert state.profile("u2").last_active < 0


@pytest.mark.parametrize("name", ["contact:sms", "Contact:SMS"])
def test_a_purpose_is_known_in_any_case(name: str) -> None:
    """A refusal on a channel leaves the other, however both are spelt."""
    stream = driver()
    stream.pipe(event("Product Viewed", user="u1", at=0, product_id="p2", context=consent(**{name: False})))
    stream.pipe(event("Unsubscribed", user="u1", at=1, channel="email"))

    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream)


def test_a_refusal_in_a_row_of_before_counts_as_it_was_spelt() -> None:
    """Rows that were written before keep the spelling of the event."""
    assert Profile(consent={"Contact": False}).answer("Contact") is False


def test_a_refusal_of_everything_takes_back_what_was_granted_before() -> None:
    """A grant by name stands against a refusal of everything from before it, and not from after it."""
    stream = driver()
    stream.pipe(event("Consent Changed", user="u1", at=10, purposes={"contact": True}))
    stream.pipe(event("Consent Changed", user="u1", at=20, purposes={"*": False}))
    stream.pipe(event("Consent Changed", user="u1", at=15, purposes={"contact": True}))
    assert [SuppressionReason.NO_CONSENT.value] == verdict(stream)

    stream.pipe(event("Consent Changed", user="u1", at=90_000, purposes={"contact": True}))
    assert ["email"] == verdict(stream, at=90_001)


def consent(**purposes: bool) -> dict[str, Any]:
    """The context of an event, as consent tools write it."""
    return {"consent": {"categoryPreferences": purposes}}
