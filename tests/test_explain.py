"""`nudge explain`: what was decided for a user, and why not more, in words and as JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.campaigns import CampaignConsent
from schemas.outputs import Cause, Decision, Explanation, Term
from schemas.reasons import SuppressionReason
from stream.explaining import explain, read_decisions
from stream.limits import RULES, Limits
from stream.reading import BadFileError
from stream.settings import Settings
from stream.telling import sentences
from stream.testing import Driver, cart_campaign, event
from tests.nudge_process import nudge

SETTINGS = Settings(campaigns={"holdout_share": 0.2, "daily_cap": 1})
CAMPAIGNS = {"cart": cart_campaign(cooldown_s=7200.0, max_per_day=3)}
LIMITS = Limits(SETTINGS, CAMPAIGNS)
ALLOWED: dict[str, Any] = {"consent": CampaignConsent(when_unknown="allow")}


def decided(
    kind: str, hour: int, reason: str | None = None, campaign_id: str = "cart", **more: Any
) -> Decision:
    """A decision about user u1 at an hour of 2026-01-01."""
    fields = {"action": "send" if kind == "trigger" else "suppress", "eligible": ["send", "suppress"]} | more
    at = f"2026-01-01T{hour:02d}:00:00.000Z"
    return Decision(
        decision_id=fields.pop("decision_id", f"d{hour}"),
        kind=kind,  # type: ignore[arg-type]  # one of the literal's values
        user_id="u1",
        propensity=fields.pop("propensity", 1.0),
        policy="rules",
        cause=Cause(f"m{hour}", "Product Added", at),
        decided_at=at,
        campaign_id=campaign_id,
        campaign_version="1",
        reason=reason,
        **fields,
    )


def test_every_reason_has_a_rule_and_a_change() -> None:
    """The closed set of reasons is walked: each has words of its own."""
    assert set(SuppressionReason) == set(RULES)
    assert len(RULES) == len(set(RULES.values()))


def test_a_cooldown_names_its_length_its_beginning_and_its_end() -> None:
    """Sent at 10, stopped at 11, cooldown 2 h: free again from 12."""
    told = explain([decided("suppression", 11, "cooldown"), decided("trigger", 10)], "u1", LIMITS)
    first, second = told["decisions"]

    assert ("trigger", "suppression") == (first["kind"], second["kind"])
    assert {"cooldown_s": 7200.0} == second["limits"]
    assert "2026-01-01T10:00:00.000Z" == second["last_written_at"]
    assert "2026-01-01T12:00:00.000Z" == second["free_from"]


def test_a_cooldown_of_the_same_moment_names_what_came_before_it_in_the_log() -> None:
    """Two products of one cart are due at once: the first goes out, and stops the second."""
    log = [
        decided("trigger", 9, decision_id="yesterday"),
        decided("trigger", 12, decision_id="first"),
        decided("suppression", 12, "cooldown", decision_id="second"),
        decided("trigger", 12, decision_id="third", campaign_id="browse"),
    ]
    told = explain(log, "u1", LIMITS, why_not="cart")

    for entry in (told["decisions"][2], told["why_not"]):
        assert "2026-01-01T12:00:00.000Z" == entry["last_written_at"]
        assert "2026-01-01T14:00:00.000Z" == entry["free_from"]


def test_a_dry_run_is_never_said_to_have_been_sent() -> None:
    """What it would have sent reached nobody, and is no reason for a live message's cooldown."""
    log = [decided("trigger", 9, dry_run=True), decided("suppression", 10, "cooldown")]
    dry, live = explain(log[:1], "u1", LIMITS, why_not="cart"), explain(log, "u1", LIMITS)
    words = " ".join(sentences(dry, 20))

    assert ("dry_run", True) == (dry["why_not"]["outcome"], dry["decisions"][0]["dry_run"])
    assert "It would have been sent" in words
    assert "cart: a dry run would have sent it" in words
    assert "was sent" not in words
    assert "cart: sent" not in words
    assert "last_written_at" not in live["decisions"][1]


def test_a_decision_that_came_again_is_told_once() -> None:
    """At least once, outputs may come again with the same id."""
    again = decided("trigger", 10)
    told = explain([again, decided("suppression", 11, "cooldown"), again], "u1", LIMITS, why_not="cart")

    assert {"suppression": 1, "trigger": 1} == told["counts"]
    assert (2, 2, "cooldown") == (
        len(told["decisions"]),
        told["why_not"]["messages"],
        told["why_not"]["reason"],
    )


@pytest.mark.parametrize(("kind", "reason"), [("holdout", "holdout"), ("suppression", "nothing_chosen")])
def test_what_was_nearly_sent_starts_the_cooldown_too(kind: str, reason: str) -> None:
    """It consumed the cooldown like a sent message, so it is what the cooldown is counted from."""
    log = [decided(kind, 9, reason), decided("suppression", 10, "cooldown")]

    assert "2026-01-01T09:00:00.000Z" == explain(log, "u1", LIMITS)["decisions"][1]["last_written_at"]


@pytest.mark.parametrize(
    ("reason", "limits"),
    [
        ("frequency_capped", {"max_per_day": 3, "NUDGE_CAMPAIGNS__DAILY_CAP": 1}),
        ("campaign_inactive", {"enabled": True}),
        ("expired", {"expires_after_s": 86_400.0}),
        ("unsubscribed", {"channel": "email"}),
        ("ineligible", {}),
    ],
)
def test_a_rule_names_its_limits(reason: str, limits: dict[str, Any]) -> None:
    """By the names under which they are set."""
    [entry] = explain([decided("suppression", 10, reason)], "u1", LIMITS)["decisions"]

    assert limits == entry["limits"]
    assert entry["rule"]
    assert entry["change"]


def test_a_holdout_names_the_bucket_below_its_share() -> None:
    """Of users whom the engine holds out, by all campaigns' share or by the campaign's own."""
    shares = {"bucket": "NUDGE_CAMPAIGNS__HOLDOUT_SHARE", "bucket_of_campaign": "holdout_share"}
    rules, campaign = {"holdout_share": 0.1}, cart_campaign(holdout_share=0.3, **ALLOWED)
    stream = Driver(settings=Settings(campaigns=rules), campaigns=[campaign])
    stream.pipe(*(event("Product Added", user=f"u{n}", at=n, product_id="p1") for n in range(60)))
    stream.advance(2 * 86_400)
    held = [decision for decision in stream.take("decisions") if decision.kind == "holdout"]
    causes = set()
    for decision in held:
        limits = Limits(Settings(campaigns=rules), {"cart": campaign})
        [entry] = explain([decision], decision.user_id, limits)["decisions"]
        below = [
            bucket for bucket, share in shares.items() if entry["limits"][bucket] < entry["limits"][share]
        ]
        assert below
        causes.update(below)

    assert set(shares) == causes


def test_what_quiet_hours_and_the_send_rate_let_expire_is_told_with_them() -> None:
    """They reach beyond what the message is worth; a backlog is not the only cause."""
    rules = Settings(campaigns={"quiet_hours": "21:00-08:00", "max_per_minute": 3.0})
    [entry] = explain([decided("suppression", 10, "expired")], "u1", Limits(rules, CAMPAIGNS))["decisions"]

    assert {
        "expires_after_s": 86_400.0,
        "NUDGE_CAMPAIGNS__QUIET_HOURS": "21:00-08:00",
        "NUDGE_CAMPAIGNS__MAX_PER_MINUTE": 3.0,
    } == entry["limits"]


@pytest.mark.parametrize(
    ("enabled", "says", "never"),
    [(True, "an event that its trigger", "enabled: true"), (False, "enabled: true", "an event")],
)
def test_what_was_not_decided_may_be_pending(*, enabled: bool, says: str, never: str) -> None:
    """The log cannot tell a timer that runs from one that never began; a disabled campaign begins none."""
    campaign = cart_campaign(enabled=enabled, quiet_hours="21:00-08:00")
    told = explain([], "u1", Limits(SETTINGS, {"cart": campaign}), why_not="cart")
    words = " ".join(sentences(told, 20))

    assert "undecided" == told["why_not"]["outcome"]
    assert "still waits for its time" in words
    assert f"enabled = {enabled}, delay_s = 3600.0, quiet_hours = 21:00-08:00" in words
    assert says in told["why_not"]["change"]
    assert never not in told["why_not"]["change"]


def test_an_offer_is_told_with_the_probability_of_each() -> None:
    """Drawn from 0.1, 0.7 and 0.2; the second was drawn."""
    offer = decided(
        "offer", 10, "best", action="ten", eligible=["nothing", "ten", "two"], propensities=[0.1, 0.7, 0.2]
    )
    told = explain([offer], "u1", LIMITS)
    words = "\n".join(sentences(told, 20))

    assert {"nothing": 0.1, "ten": 0.7, "two": 0.2} == told["decisions"][0]["eligible"]
    assert "nothing 0.100, ten 0.700, two 0.200" in words


def test_models_are_said_in_words() -> None:
    """The terms of a click model, and what was known of an offer."""
    message = decided(
        "trigger",
        10,
        features={"click_probability": 0.0312, "expected_value": 1.25},
        explanation=Explanation("click_rate", [Term("item=p1", 0.82, 0.1), Term("buyer=no", -0.4, 0.05)]),
    )
    offered = decided(
        "offer",
        11,
        "best",
        action="ten",
        eligible=["nothing", "ten"],
        propensities=[0.2, 0.8],
        explanation=Explanation("offers", mean=0.12, deviation=0.3, floor_share=0.25),
    )
    words = "\n".join(sentences(explain([message, offered], "u1", LIMITS), 20))

    assert "click probability 0.0312 by click_rate, expected value 1.25" in words
    assert "item=p1 raises the log odds by 0.82 ± 0.10" in words
    assert "buyer=no lowers the log odds by 0.40 ± 0.05" in words
    assert (
        "answered with probability 0.120, log odds known to ± 0.30; 25% of its chance is the floor" in words
    )


@pytest.mark.parametrize(
    ("log", "campaign_id", "says"),
    [
        ([decided("trigger", 10)], "cart", "It was sent: the last time at 2026-01-01T10"),
        (
            [decided("trigger", 10), decided("suppression", 11, "frequency_capped")],
            "cart",
            "NUDGE_CAMPAIGNS__DAILY_CAP = 1",
        ),
        ([], "cart", "trigger (cart_abandonment)"),
        ([decided("trigger", 10, campaign_id="browse")], "brows", "Did you mean 'browse'"),
    ],
)
def test_why_not_tells_the_last_message_and_what_would_have_to_change(
    log: list[Decision], campaign_id: str, says: str
) -> None:
    """Sent, stopped by a rule, never due, and a campaign that nobody knows."""
    told = explain(log, "u1", LIMITS, why_not=campaign_id)

    assert says in "\n".join(sentences(told, 20))


def test_a_log_is_read_from_a_folder_a_file_and_a_gzipped_file(tmp_path: Path) -> None:
    """Of the user's decisions only; what is no decision is named by file and line."""
    lines = [msgspec.json.encode(d) for d in (decided("trigger", 1), decided("trigger", 2))]
    lines.append(lines[0].replace(b'"u1"', b'"u2"'))
    (tmp_path / "decisions.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    zipped = tmp_path / "log.gz"
    zipped.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))

    for path in (tmp_path, tmp_path / "decisions.jsonl", zipped):
        assert ["d1", "d2"] == [decision.decision_id for decision in read_decisions(path, "u1")]
    zipped.write_bytes(b'{"decision_id": 1}\n')
    with pytest.raises(BadFileError, match=r"log\.gz:1"):
        list(read_decisions(zipped, "u1"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match="output folder"):
        list(read_decisions(tmp_path / "empty", "u1"))


def test_a_replay_is_explained_from_its_folder(tmp_path: Path) -> None:
    """Replay, then explain: the words, the JSON, and the exit codes 0, 1, 65 and 69."""
    campaigns, events = tmp_path / "c.json", tmp_path / "e.jsonl"
    campaigns.write_bytes(
        msgspec.json.encode([cart_campaign(delay_s=60.0, consent={"when_unknown": "allow"})])
    )
    events.write_bytes(
        b"".join(event("Product Added", user="u1", at=at, product_id=f"p{at}") + b"\n" for at in (0, 600))
    )
    out, environment = tmp_path / "out", {"NUDGE_CAMPAIGNS__HOLDOUT_SHARE": "0"}
    until = ("--until", "2026-01-02", "--now", "2026-01-02")
    common = ("--events", events, "--campaigns", campaigns, "--out", out)
    assert 0 == nudge("replay", *common, *until, environment=environment).returncode
    ask = ("explain", "u1", "--decisions", out, "--campaigns", campaigns, "--why-not", "cart")
    words, told = nudge(*ask, environment=environment), nudge(*ask, "--json", environment=environment)
    nobody = nudge("explain", "u9", "--decisions", out)
    (out / "decisions.jsonl").write_text("no decision\n")

    assert (0, 0) == (words.returncode, told.returncode), words.stderr
    assert "cart: sent" in words.stdout.decode()
    assert "cooldown_s = 86400.0" in words.stdout.decode()
    assert "cooldown" == json.loads(told.stdout)["why_not"]["reason"]
    assert (1, True) == (nobody.returncode, b"u9" in nobody.stderr)
    assert 65 == nudge("explain", "u1", "--decisions", out).returncode
    assert 69 == nudge("explain", "u1", "--bootstrap", "127.0.0.1:1").returncode
