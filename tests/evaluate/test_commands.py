"""``nudge evaluate`` as programs call it: options, exit codes, what stands on stdout."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest

from tests.nudge_process import nudge

EVENTS = b"".join(
    json.dumps(
        {
            "messageId": f"m{n}",
            "userId": f"u{n // 2}",
            "timestamp": f"2026-01-01T00:{n:02d}:00Z",
            "event": "Product Viewed",
            "properties": {"product_id": f"i{n % 2}"},
        }
    ).encode()
    + b"\n"
    for n in range(40)
)


def evaluate(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command with small tables."""
    return nudge("evaluate", *arguments, stdin=stdin, environment={"NUDGE_CLICK_SLOTS": "1024"})


@pytest.mark.parametrize("encode", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_recommend_reads_stdin_and_prints_one_document(encode: type[bytes]) -> None:
    """The keys that other programs rely on, also for each baseline; talk goes to stderr."""
    done = evaluate(
        *("recommend", "--events", "-", "--positive", "Product Viewed,Product Added", "--json"),
        *("--k", "5", "--repeats", "allow"),
        stdin=encode(b"{\n" + EVENTS),
    )
    report = json.loads(done.stdout)
    keys = {"recall_at_5", "recall_at_10", "recall_at_20", "ndcg_at_10", "mrr", "n", "slices"}

    assert 0 == done.returncode, done.stderr
    assert 36 == report["n"]
    assert keys <= set(report)
    assert 7 == len(report["baselines"])
    assert all(keys <= set(one) for one in report["baselines"].values())
    assert "-:1: not_json" in done.stderr.decode()


def test_the_gate_is_an_exit_code(tmp_path: Path) -> None:
    """Two items that everybody takes: nothing can lead, so --gate ends with 1; without baselines with 2."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(EVENTS)
    common = ("recommend", "--events", path, "--positive", "Product Viewed", "--baselines", "item_knn")

    beaten, nobody = evaluate(*common, "--gate"), evaluate(*common[:-1], "none", "--gate")

    assert (1, 2) == (beaten.returncode, nobody.returncode)
    assert "item_knn" in beaten.stderr.decode()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--positive", "Product Viewed", "--repeats", "maybe"], 2, "exclude or allow"),
        (["--positive", "Product Viewed", "--k", "ten"], 2, "--k 'ten'"),
        (["--positive", "Product Viewed", "--baselines", "oracle"], 2, "item_knn"),
        (["--positive", ","], 2, "names no event"),
        (["--positive", "Product Viewed", "--plot", "chart.png"], 2, ".svg"),
        (["--positive", "Product Added"], 65, "Product Viewed"),
        ([], 2, "--positive"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, options: list[str], code: int, says: str) -> None:
    """Usage is 2, data that cannot be evaluated is 65; each with what would be right."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(EVENTS)
    done = evaluate("recommend", "--events", path, *options)

    assert code == done.returncode
    assert says in done.stderr.decode().replace("\n", "")
    assert b"" == done.stdout


def test_click_prints_the_keys(tmp_path: Path) -> None:
    """The metrics of the model and of each baseline; a refused line is named on stderr."""
    path = tmp_path / "examples.jsonl"
    good = [json.dumps({"time": n, "features": {"a": str(n % 3), "b": n}, "label": n % 2}) for n in range(50)]
    path.write_text("\n".join([*good, "{"]))
    chart = tmp_path / "chart.svg"
    done = evaluate("click", "--examples", path, "--json", "--plot", chart)
    report = json.loads(done.stdout)
    keys = {"log_loss", "base_rate_log_loss", "normalised_entropy", "auc", "ece", "n"}

    assert (0, 50) == (done.returncode, report["n"])
    assert keys <= set(report)
    assert {"base_rate", "ftrl", "river_logistic_regression"} <= set(report["baselines"])
    assert all(keys <= set(one) for one in report["baselines"].values())
    assert f"{path}:51: not_json" in done.stderr.decode()
    assert "river_logistic_regression</text>" in chart.read_text()


def test_offers_prints_the_keys(tmp_path: Path) -> None:
    """Replay, the log's mean, the best fixed action and the estimates, refused ones as null."""
    path = tmp_path / "logged.jsonl"
    row = {"context": {"x": 1.0}, "eligible": ["a", "b"], "propensity": 0.5}
    rows = [row | {"action": "ab"[n % 2], "reward": n % 4 == 0} for n in range(200)]
    path.write_text("\n".join(map(json.dumps, rows)))
    done = evaluate("offers", "--logged", path, "--runs", "1", "--json")
    report = json.loads(done.stdout)
    keys = {"replay_mean", "replay_n", "logged_mean", "best_fixed_action", "estimates"}

    assert 0 == done.returncode, done.stderr
    assert keys <= set(report)
    assert (0.25, "a") == (report["logged_mean"], report["best_fixed_action"]["action"])
    for name in ("ips", "snips", "dm", "dr"):
        assert {"value", "low", "high", "ess"} <= set(report["estimates"][name])
