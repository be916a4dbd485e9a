from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import pytest

from online_models.many_offers import ManyOffers
from stream.evaluate.contexts import MAX_FEATURES, ContextEncoder
from stream.evaluate.decision_log import DecisionLog
from stream.evaluate.logged import LoggedDecision
from stream.evaluate.offer_policy import OfferPolicy
from stream.evaluate.offers import evaluate_offers
from stream.reading import BadFileError
from stream.settings import Settings

SETTINGS = Settings(max_items=256, click_slots=2**10)
OFFERS = ["ten", "free", "none"]


def rates(x: float) -> list[float]:
    """Free shipping suits those with a large x, ten percent the others; no offer suits nobody."""
    return [0.5 - 0.4 * (x > 0), 0.1 + 0.4 * (x > 0), 0.02]


def decisions(n: int, *, seed: int = 0, odds: tuple[float, ...] = (1, 1, 1)) -> list[dict[str, Any]]:
    """A log of a policy that looks at nothing."""
    rng = np.random.default_rng(seed)
    p = np.array(odds) / sum(odds)
    found = []
    for at in range(n):
        x, arm = float(rng.choice([-1.0, 1.0])), int(rng.choice(3, p=p))
        found.append(
            {
                "time": at,
                "context": {"x": x},
                "eligible": OFFERS,
                "action": OFFERS[arm],
                "reward": int(rng.random() < rates(x)[arm]),
                "propensity": float(p[arm]),
            }
        )
    return found


def run(path: Path, rows: list[Any], settings: Settings = SETTINGS, **options: Any) -> dict[str, Any]:
    """Evaluate lines; text stands for itself."""
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return evaluate_offers(settings, path, **options)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Report on 3,000 decisions of a uniform policy."""
    return run(tmp_path_factory.mktemp("log") / "log.jsonl", decisions(3000))


def test_the_policy_learns_to_look_at_the_context(uniform: dict[str, Any]) -> None:
    """The best fixed offer earns .3, the best policy .5; replay and estimates say that ours comes near it."""
    fixed, estimates = uniform["best_fixed_action"], uniform["estimates"]

    assert {"ips", "snips", "dm", "dr", "switch_dr", "dros", "uniform"} == set(estimates)
    assert fixed["low"] < 0.3 < fixed["high"]
    for name in ("ips", "snips", "dr", "switch_dr"):
        one = estimates[name]
        assert 0.38 < one["low"] < one["value"] < one["high"] < 0.56, name
    assert uniform["replay_mean"] > 0.38
    assert uniform["gain_over_best_fixed_action"]["low"] > 0.05


def test_replay_meets_a_third_of_a_uniform_log(uniform: dict[str, Any]) -> None:
    """Whatever the policy chooses, a uniform log has done the same in one of three; every run differs."""
    counts = [one["n"] for one in uniform["replay_runs"]]

    assert uniform["replay_n"] == counts[0]
    assert len(set(counts)) > 1
    assert all(900 < n < 1100 for n in counts)


def test_weights_of_a_right_log_have_mean_1(uniform: dict[str, Any]) -> None:
    """And the uniform policy earns what was logged."""
    assert uniform["weights"]["mean_is_near_1"]
    assert 0 == uniform["weights"]["clipped_share"]
    assert uniform["logged_mean"] == pytest.approx(uniform["estimates"]["uniform"]["value"])


def test_always_valid_bounds_are_wider_and_their_series_ends_in_them(uniform: dict[str, Any]) -> None:
    """Looking at all times costs width."""
    one = uniform["estimates"]["dr"]
    low, high = one["always_valid"]

    assert low < one["low"] < one["high"] < high
    assert (3000, low, high) == tuple(one["series"][-1][key] for key in ("n", "low", "high"))
    assert uniform["estimates"]["dm"]["always_valid"] is None


def test_unequal_propensities_are_corrected(tmp_path: Path) -> None:
    """Under a log that prefers "none" the same policy earns about the same."""
    report = run(tmp_path / "log.jsonl", decisions(6000, odds=(1, 1, 4)), runs=1)

    assert report["logged_mean"] < 0.15
    assert 0.38 < report["replay_mean"] < 0.56
    assert report["estimates"]["snips"]["low"] < 0.48 < report["estimates"]["snips"]["high"] + 0.05


def test_wrong_propensities_are_told_by_the_mean_weight(tmp_path: Path) -> None:
    """Propensities that are half of what they should be double the weights."""
    wrong = [row | {"propensity": row["propensity"] / 2} for row in decisions(2000)]
    weights = run(tmp_path / "log.jsonl", wrong, runs=1)["weights"]

    assert not weights["mean_is_near_1"]
    assert 1.8 < weights["mean"] < 2.2


def test_low_effective_sample_size_is_refused(tmp_path: Path) -> None:
    """A number from too few decisions is null, with the reason; DM rests on no weights."""
    report = run(tmp_path / "log.jsonl", decisions(40), runs=1)

    for name in ("ips", "snips", "dr", "switch_dr"):
        assert report["estimates"][name]["value"] is None
        assert "below 30" in report["estimates"][name]["reason"]
    assert report["estimates"]["dm"]["value"] is not None
    assert report["best_fixed_action"]["value"] is None
    assert report["gain_over_best_fixed_action"] is None
    assert run(tmp_path / "log.jsonl", decisions(40), runs=1, min_ess=5)["estimates"]["ips"]["value"] > 0


def test_the_best_fixed_action_is_also_valued_on_other_rows(tmp_path: Path) -> None:
    """Chosen on the first half, valued on the second."""
    rows = decisions(400, seed=1) + [row | {"reward": 0} for row in decisions(400, seed=2)]
    fixed = run(tmp_path / "log.jsonl", rows, runs=1)["best_fixed_action"]

    assert fixed["value"] > 0.1
    assert fixed["held_out"]["value"] == 0.0


def test_what_few_decisions_say_has_no_interval(tmp_path: Path) -> None:
    """An action taken once in the second half of the log, and a replay that meets few rows."""
    rows = [row | {"action": "ten", "propensity": 0.9} for row in decisions(100)]
    rows += [
        row | {"action": "free" if n else "ten", "propensity": 0.9} for n, row in enumerate(decisions(100))
    ]
    fixed = run(tmp_path / "log.jsonl", rows, runs=1)["best_fixed_action"]["held_out"]
    few = run(tmp_path / "log.jsonl", decisions(60), runs=1)

    assert (None, None, None) == (fixed["value"], fixed["low"], fixed["high"])
    assert "below 30" in fixed["reason"]
    assert 0 < few["replay_n"] < 30
    assert few["replay_mean"] is not None
    assert few["replay_interval"] is None


@pytest.mark.parametrize(("n_rewards", "known"), [(0, False), (3, False), (100, True)])
def test_rewards_that_hardly_anybody_had_have_no_interval(
    tmp_path: Path, n_rewards: int, *, known: bool
) -> None:
    """Of three hundred decisions: none rewarded is not certainly none, and three say little of their rate."""
    rows = decisions(300)
    for at, row in enumerate(rows):
        row["reward"] = int(at % (300 // n_rewards) == 0) if n_rewards else 0
    report = run(tmp_path / "log.jsonl", rows)
    estimates = [report["estimates"][name] for name in ("ips", "snips", "uniform")]

    assert n_rewards / 300 == pytest.approx(report["logged_mean"])
    assert known == (report["logged_interval"] is not None)
    assert all(one["value"] is not None for one in estimates)
    assert [known] * 3 == [one["low"] is not None for one in estimates]


def test_an_action_for_some_is_compared_on_the_decisions_of_all(tmp_path: Path) -> None:
    """Nothing that is done matters, but those who may get the special offer buy ten times as often."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(5000):
        vip = bool(rng.random() < 0.2)
        eligible = ["ten", "free", *(["vip"] if vip else [])]
        rows.append(
            {
                "context": {},
                "eligible": eligible,
                "action": str(rng.choice(eligible)),
                "reward": int(rng.random() < (0.5 if vip else 0.05)),
                "propensity": 1.0 / len(eligible),
            }
        )
    report = run(tmp_path / "log.jsonl", rows, runs=1)
    fixed, gain = report["best_fixed_action"], report["gain_over_best_fixed_action"]

    assert abs(fixed["value"] - report["logged_mean"]) < 0.02
    assert gain["low"] < 0.0 < gain["high"]


def test_an_action_that_was_hardly_taken_is_not_called_best(tmp_path: Path) -> None:
    """Eligible in two decisions of 1,500, taken in both, with success: the others say nothing about it."""
    rows = [row | {"context": {}} for row in decisions(1500)]
    for row in rows[700:702]:
        row |= {"eligible": [*OFFERS, "rare"], "action": "rare", "reward": 1, "propensity": 0.25}
    fixed = run(tmp_path / "log.jsonl", rows, runs=1)["best_fixed_action"]

    assert "rare" != fixed["action"]
    assert 400 < fixed["ess"] < 600


def test_the_reward_model_alone_has_no_interval(uniform: dict[str, Any]) -> None:
    """Its scores vary less than the truth is known: an interval of theirs would nearly always miss."""
    one = uniform["estimates"]["dm"]

    assert 0.38 < one["value"] < 0.56
    assert (None, None, None) == (one["low"], one["high"], one["always_valid"])


def test_the_policy_forgets_as_it_is_set_to(tmp_path: Path) -> None:
    """What is good changes half-way, days apart: who forgets within a day earns more than who never does."""
    rng, rows = np.random.default_rng(2), []
    for n in range(1200):
        action = str(rng.choice(["ten", "free"]))
        good = (action == "ten") == (n < 600)
        chance = int(rng.random() < (0.6 if good else 0.1))
        rows.append(
            {"time": n * 8 * 3600, "context": {}, "eligible": ["ten", "free"], "action": action}
            | {"reward": chance, "propensity": 0.5}
        )
    values = [
        run(
            tmp_path / "log.jsonl",
            rows,
            Settings(max_items=256, offers={"half_life_days": days}),
            runs=1,
        )["estimates"]["snips"]["value"]
        for days in (0.0, 10.0)
    ]

    assert values[1] > values[0] + 0.05


def log_of(rows: list[dict[str, Any]]) -> DecisionLog:
    """A log as arrays."""
    found = [msgspec.convert(row, LoggedDecision) for row in rows]
    return DecisionLog(found, ContextEncoder(one.context for one in found))


def test_a_line_without_a_time_has_that_of_the_line_before() -> None:
    """Of the first that has one where there is none before, and 0 where there is none at all."""
    (row,) = decisions(1)
    times = [None, 5, None, "1970-01-01T00:00:09Z", None]

    assert [5.0, 5.0, 5.0, 9.0, 9.0] == log_of([row | {"time": time} for time in times]).times
    assert [0.0, 0.0] == log_of([row | {"time": None}] * 2).times


def test_a_choice_is_made_by_what_is_left_of_what_was_learned() -> None:
    """Ten half-lives after 300 decisions the policy draws nearly evenly again."""
    rows = [row | {"context": {}, "reward": int(row["action"] == "ten"), "time": 0} for row in decisions(300)]
    log = log_of([*rows, rows[0] | {"time": 100 * 86_400}, rows[0]])
    policy = OfferPolicy(Settings(max_items=256, offers={"half_life_days": 10.0}), log)
    for at in range(300):
        policy.learn(at)
    late, soon = (policy.probabilities(at, "k").max() for at in (300, 301))

    assert late < 0.6
    assert soon > 0.9


@pytest.mark.parametrize("few", [2, 3])
def test_many_offers_are_chosen_from_as_in_production(tmp_path: Path, few: int) -> None:
    """By the hashed posterior where more are eligible than `few`, by full ones up to there."""
    settings = Settings(max_items=256, offers={"few": few})
    with mock.patch.object(ManyOffers, "choose", autospec=True, side_effect=ManyOffers.choose) as many:
        report = run(tmp_path / "log.jsonl", decisions(1500), settings, runs=1)

    assert (3000 if few < 3 else 0) == many.call_count
    assert 0.38 < report["estimates"]["snips"]["value"] < 0.56


def test_rewards_between_0_and_1_teach_in_part(tmp_path: Path) -> None:
    """All rewards .5: everything earns .5."""
    rows = [row | {"reward": 0.5} for row in decisions(300)]
    report = run(tmp_path / "log.jsonl", rows, runs=1)

    assert [0.5, 0.5] == pytest.approx([report["replay_mean"], report["estimates"]["snips"]["value"]])


def test_money_is_valued_as_it_is_and_learned_in_proportion(tmp_path: Path) -> None:
    """Ten times the rewards: ten times the values, and the same choices."""
    rows = decisions(500)
    ones = run(tmp_path / "a.jsonl", rows, runs=1)
    tens = run(tmp_path / "b.jsonl", [row | {"reward": 10 * row["reward"]} for row in rows], runs=1)

    assert ones["replay_n"] == tens["replay_n"]
    for name in ("ips", "snips", "dm", "dr"):
        assert tens["estimates"][name]["value"] == pytest.approx(10 * ones["estimates"][name]["value"])


def test_the_same_log_gives_the_same_report(tmp_path: Path) -> None:
    """Draws are keyed by the seed and the row."""
    rows = decisions(200)

    assert run(tmp_path / "a.jsonl", rows) == run(tmp_path / "b.jsonl", rows)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"propensity": 0}, "bad_propensity"),
        ({"propensity": 1.5}, "bad_propensity"),
        ({"reward": 2e12}, "bad_reward"),
        ({"action": "other"}, "not_eligible"),
        ({"eligible": []}, "bad_eligible"),
        ({"eligible": ["ten", "ten"]}, "bad_eligible"),
        ({"context": None}, "bad_shape"),
        ({"time": "noon"}, "bad_time"),
        ({"time": 1.7e12}, "bad_time"),
    ],
)
def test_a_bad_line_is_a_code_with_its_place(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    """The others are evaluated; alone it refuses the file."""
    (good,) = decisions(1)
    path = tmp_path / "log.jsonl"
    report = run(path, [*decisions(5), good | change, "{"], runs=1)["decisions"]

    assert {code: 1, "not_json": 1} == report["rejected"]
    assert report["examples"][0].startswith(f"{path}:6: {code}: ")
    with pytest.raises(BadFileError, match=code):
        run(path, [good | change])


def test_contexts_are_of_order_1() -> None:
    """Large numbers are curved, texts are columns, what is missing is 0, and the bias is ours."""
    encoder = ContextEncoder([{"spend": 1000.0, "bias": 1.0}, {"spend": -3.0, "city": "Rome", "new": None}])

    assert ["bias", "city=Rome", "spend"] == encoder.names
    assert [1.0, 1.0, np.arcsinh(-3.0)] == pytest.approx(encoder.encode({"city": "Rome", "spend": -3.0}))
    assert [1.0, 0.0, 0.0] == encoder.encode({"city": "Oslo"}).tolist()


def test_rare_context_entries_are_left_out() -> None:
    """Of 100 texts the 63 most frequent stay."""
    contexts = [{"id": str(n)} for n in range(100) for _ in range(n + 1)]
    encoder = ContextEncoder(contexts)

    assert (MAX_FEATURES, 37) == (len(encoder.names), encoder.n_left_out)
    assert "id=99" in encoder.names
    assert "id=0" not in encoder.names
