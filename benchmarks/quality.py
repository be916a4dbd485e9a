"""Quality of the models on public data beside every baseline of ``nudge evaluate``; a table and JSON.

    python benchmarks/quality.py [--quick] [--only NAME ...] [--keep FILE] [--write]

Each data set goes through ``nudge evaluate``'s own code, with the default settings whatever it is. Where a
model draws lots the run is repeated with seeds 0, 1 and 2 and the figures are mean ± half the range;
everything else gives the same figures every time and is run once.

``--keep`` adds the results to a JSON file and leaves out what that file has of this commit already, so a
stopped run goes on. ``--write`` writes the table into docs/models/quality.md. Progress goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.jobs.machine import commit, machine
from benchmarks.jobs.process import ROOT
from benchmarks.jobs.public_data import CLICKS, OFFERS, QUICK, RECOMMENDATIONS, Stream
from stream.evaluate.baselines import CLICK, RANKING
from stream.evaluate.click import evaluate_click
from stream.evaluate.offers import evaluate_offers
from stream.evaluate.recommend import Protocol, evaluate_recommend
from stream.settings import Settings

SEEDS = (0, 1, 2)
DRAWN = ("isgd", "river_biased_mf")  # the baselines of recommendations that draw lots; ours does not
PAGE = ROOT / "docs" / "models" / "quality.md"
RANKS = {"recall_at_10": "R@10", "ndcg_at_10": "NDCG@10"}
SLICE = "session_start"

Figures = dict[str, list[float | None]]  # metric -> one value a seed
Result = dict[str, Any]


def recommendations(stream: Stream, path: Path) -> dict[str, Figures]:
    """Models and baselines of one stream of events."""
    protocol = Protocol(frozenset({stream.positive}))
    once = tuple(name for name in RANKING if name not in DRAWN)
    reports = [evaluate_recommend(Settings(), path, protocol, baselines=once)]
    reports += [evaluate_recommend(Settings(seed=seed), path, protocol, baselines=DRAWN) for seed in SEEDS]
    found: dict[str, Figures] = {"nudge": _ranked([reports[0]])}
    for name in RANKING:
        found[name] = _ranked([one["baselines"][name] for one in reports if name in one["baselines"]])
    found["nudge"]["n"] = [float(reports[0]["n"])]
    for name in RANKING:
        leads = [one["baselines"][name]["lead"] for one in reports if name in one["baselines"]]
        for bound in ("value", "low", "high"):
            found[name][f"lead_{bound}"] = [lead["recall_at_10"][bound] for lead in leads]
    return found


def _ranked(reports: list[dict[str, Any]]) -> Figures:
    figures: Figures = {metric: [one[metric] for one in reports] for metric in RANKS}
    figures[f"{SLICE}_recall_at_10"] = [one["slices"][SLICE]["recall_at_10"] for one in reports]
    return figures


def clicks(stream: Stream, path: Path) -> dict[str, Figures]:
    """Models and baselines of one stream of examples; nobody draws lots."""
    del stream
    report = evaluate_click(Settings(), path, baselines=CLICK)
    reports = {"nudge": report, **report["baselines"]}
    found: dict[str, Figures] = {
        name: {metric: [one[metric]] for metric in ("log_loss", "auc", "ece")}
        for name, one in reports.items()
    }
    found["nudge"]["n"] = [float(report["examples"]["accepted"])]
    return found


def offers(stream: Stream, path: Path) -> dict[str, Figures]:
    """The policy, the random and the logging one and the best fixed action of one log."""
    del stream
    reports = [evaluate_offers(Settings(seed=seed), path, runs=1) for seed in SEEDS]
    first = reports[0]
    return {
        "nudge": {
            "value": [one["estimates"]["snips"]["value"] for one in reports],
            "low": [one["estimates"]["snips"]["low"] for one in reports],
            "high": [one["estimates"]["snips"]["high"] for one in reports],
            "replay": [one["replay_mean"] for one in reports],
            "n": [float(first["n"])],
        },
        "random policy": {key: [first["estimates"]["uniform"][key]] for key in ("value", "low", "high")},
        "logging policy": {
            "value": [first["logged_mean"]],
            "low": [first["logged_interval"][0]],
            "high": [first["logged_interval"][1]],
        },
        "best fixed action, chosen afterwards": {
            key: [first["best_fixed_action"][key]] for key in ("value", "low", "high")
        },
    }


Task = tuple[dict[str, Stream], Callable[[Stream, Path], dict[str, Figures]]]
TASKS: dict[str, Task] = {
    "recommend": (RECOMMENDATIONS, recommendations),
    "click": (CLICKS, clicks),
    "offers": (OFFERS, offers),
}


def run(only: list[str], keep: Path | None, *, quick: bool) -> Result:
    """Evaluate what is asked for, and what the kept file has not yet."""
    result: Result = {"benchmark": "quality", "commit": commit(), "quick": quick, "machine": machine()}
    result["tasks"] = {task: {} for task in TASKS}
    if keep is not None and keep.is_file():
        kept = json.loads(keep.read_text(encoding="utf-8"))
        if kept["commit"] == result["commit"] and kept["quick"] == quick:
            result = kept
    for task, (streams, evaluate) in TASKS.items():
        for name, stream in streams.items():
            if name in result["tasks"][task] or (only and name not in only and task not in only):
                continue
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "lines.jsonl"
                n_lines = stream.write(path, quick=quick)
                models = evaluate(stream, path)
            took = round(time.perf_counter() - began, 1)
            result["tasks"][task][name] = {"lines": n_lines, "note": stream.note, "s": took, "models": models}
            print(f"{task} {name}: {took} s", file=sys.stderr, flush=True)
            if keep is not None:
                keep.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def markdown(result: Result) -> str:
    """The tables, as a page."""
    seconds = sum(one["s"] for streams in result["tasks"].values() for one in streams.values())
    lines = [
        "# Quality, beside the baselines",
        "",
        (
            f"Printed by `benchmarks/quality.py{' --quick' if result['quick'] else ''} --write` at commit "
            f"`{result['commit']}` in {seconds:.0f} s."
        ),
        "Every data set runs with the same, default configuration; nothing is tuned to one of them.",
        (
            "Where lots are drawn the figure is the mean of the seeds 0, 1 and 2 ± half their range; the "
            "rest has no lots to draw."
        ),
        "The protocols stand in [../evaluation.md](../evaluation.md).",
        "",
    ]
    if result["quick"]:
        lines += [f"**The quick form: at most {QUICK} lines of each data set.**", ""]
    tasks = result["tasks"]
    missing = [f"{name} ({task})" for task in TASKS for name in TASKS[task][0] if name not in tasks[task]]
    if missing:
        lines += [f"**Not run yet: {', '.join(missing)}.**", ""]
    for metric, title in (
        ("recall_at_10", "Recommendations: recall@10"),
        ("ndcg_at_10", "Recommendations: NDCG@10"),
        (f"{SLICE}_recall_at_10", "Recommendations at session starts: recall@10"),
    ):
        lines += _table(title, tasks["recommend"], metric, best=max)
    lines += _notes(tasks["recommend"])
    for metric, title, best in (
        ("log_loss", "Clicks: log loss", min),
        ("auc", "Clicks: AUC", max),
        ("ece", "Clicks: calibration error (ECE)", min),
    ):
        lines += _table(title, tasks["click"], metric, best=best)
    lines += _notes(tasks["click"])
    lines += _table("Offers: estimated value (SNIPS) [95 %]", tasks["offers"], "value", best=None)
    lines += _notes(tasks["offers"])
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(
    title: str, streams: Result, metric: str, best: Callable[[list[float]], float] | None
) -> list[str]:
    if not streams:
        return []
    names = list(dict.fromkeys(model for one in streams.values() for model in one["models"]))
    rows = []
    for model in names:
        cells = [_cell(one["models"], model, metric, best) for one in streams.values()]
        rows.append(f"| {model.replace('_', ' ')} | {' | '.join(cells)} |")
    head = f"| | {' | '.join(streams)} |"
    return [f"## {title}", "", head, "|---" * (len(streams) + 1) + "|", *rows, ""]


def _cell(
    models: dict[str, Figures], model: str, metric: str, best: Callable[[list[float]], float] | None
) -> str:
    """Mean, spread and bounds of one model on one data set; the best of a column is bold."""
    mean = _mean(models, model, metric)
    if mean is None:
        return ""
    values = models[model][metric]
    text = f"{mean:.4f}".removeprefix("0")
    means = [one for name in models if (one := _mean(models, name, metric)) is not None]
    if best is not None and mean == best(means):
        text = f"**{text}**"
    if len(values) > 1:
        half = (max(v for v in values if v is not None) - min(v for v in values if v is not None)) / 2
        text += f" ± {half:.4f}".replace("± 0.", "± .")
    if metric == "value" and (low := _mean(models, model, "low")) is not None:
        high = _mean(models, model, "high")
        text += f" [{low:.4f}, {high:.4f}]".replace("0.", ".")
    return text


def _mean(models: dict[str, Figures], model: str, metric: str) -> float | None:
    values = models.get(model, {}).get(metric, [])
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _notes(streams: Result) -> list[str]:
    return [
        *(
            f"- **{name}**: {one['note']}; {one['lines']:,} lines, "
            f"{int(one['models']['nudge']['n'][0]):,} scored."
            for name, one in streams.items()
        ),
        "",
    ]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK} lines of each data set")
    parser.add_argument("--only", action="append", default=[], help="a data set or task; may be repeated")
    parser.add_argument("--keep", type=Path, help="JSON file that results are added to")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    asked = parser.parse_args()
    result = run(asked.only, asked.keep, quick=asked.quick)
    page = markdown(result)
    if asked.write:
        PAGE.write_text(page, encoding="utf-8")
    print(page, file=sys.stderr)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
