"""Evaluations as a person reads them, on stderr."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from stream.terminal import say, talk

__all__ = ["show_click", "show_offers", "show_recommend", "show_rejects"]

PREDICTION = ("log_loss", "normalised_entropy", "auc", "calibration_ratio")
RANKING = ("recall_at_10", "recall_at_20", "ndcg_at_10", "mrr")


def show_rejects(rejected: dict[str, int], examples: list[str]) -> None:
    """Say how many lines were refused, by code, and where the first few of them are."""
    if not rejected:
        return
    counts = ", ".join(f"{code} {n}" for code, n in rejected.items())
    say(f"{sum(rejected.values())} lines rejected: {counts}", style="yellow")
    for example in examples:
        say(f"  {example}", style="yellow")


def show_recommend(report: dict[str, Any]) -> None:
    """Print ranking metrics with intervals beside the baselines, and recall by slice."""
    events, protocol = report["events"], report["protocol"]
    show_rejects(events["rejected"], events["examples"])
    if events["out_of_order"]:
        say(
            f"{events['out_of_order']} events stood after a later one and were sorted by time", style="yellow"
        )
    say(
        f"{report['n']} events scored of {events['positive']} positive; the first "
        f"{protocol['warm_up_events']} only taught, {protocol['repeats_not_scored']} repeats not scored; "
        f"{protocol['users']} users, {protocol['items']} items"
    )
    rows = {"nudge": report, **report["baselines"]}
    table = Table("", *RANKING, "coverage_at_10", "nudge leads recall_at_10 by", box=None)
    for name, row in rows.items():
        lead = row["lead"]["recall_at_10"] if "lead" in row else None
        table.add_row(
            name,
            *(_with_interval(row, metric) for metric in RANKING),
            f"{row.get('coverage_at_10', 0.0):.3f}",
            f"{lead['value']:.4f} {_bounds((lead['low'], lead['high']))}" if lead else "",
        )
    talk.print(table)
    slices = Table(
        "recall_at_10", *(f"{name} ({one['n']})" for name, one in report["slices"].items()), box=None
    )
    for name, row in rows.items():
        slices.add_row(name, *(_number(one["recall_at_10"]) for one in row["slices"].values()))
    talk.print(slices)
    for name, reason in report["baselines_skipped"].items():
        say(f"{name} did not run: {reason}", style="yellow")


def show_click(report: dict[str, Any]) -> None:
    """Print the click model's metrics with intervals beside the baselines, and log loss by slice."""
    examples = report["examples"]
    show_rejects(examples["rejected"], examples["rejected_examples"])
    say(
        f"{report['n']} examples predicted; {examples['delayed_labels']} labels came later, "
        f"{examples['labels_never_learned']} of them after the last example"
    )
    rows = {"nudge": report, **report["baselines"]}
    table = Table("", *PREDICTION, "ece", "nudge leads log_loss by", box=None)
    for name, row in rows.items():
        lead = row["lead"]["log_loss"] if "lead" in row else None
        table.add_row(
            name,
            *(_with_interval(row, metric) for metric in PREDICTION),
            _number(row["ece"]),
            f"{lead['value']:.4f} {_bounds((lead['low'], lead['high']))}" if lead else "",
        )
    talk.print(table)
    slices = Table("log_loss", *(f"{name} ({one['n']})" for name, one in report["slices"].items()), box=None)
    for name, row in rows.items():
        slices.add_row(name, *(_number(one["log_loss"]) for one in row["slices"].values()))
    talk.print(slices)
    for name, reason in report["baselines_skipped"].items():
        say(f"{name} did not run: {reason}", style="yellow")


def show_offers(report: dict[str, Any]) -> None:
    """Print what the log earned, the replay, the estimates, and what may be wrong with the propensities."""
    decisions, weights = report["decisions"], report["weights"]
    show_rejects(decisions["rejected"], decisions["examples"])
    say(
        f"{report['n']} decisions among {decisions['actions']} actions; "
        f"{decisions['context_entries']} context entries, {decisions['context_entries_left_out']} left out; "
        f"replay met {report['replay_n']}"
    )
    if not weights["mean_is_near_1"]:
        say(f"the mean weight is {weights['mean']:.3f} and not 1: check the logged propensities", style="red")
    table = Table("", "value", "95 %", "always valid", "ESS", box=None)
    table.add_row("logged", _number(report["logged_mean"]), _bounds(report["logged_interval"]), "", "")
    table.add_row("replay", _number(report["replay_mean"]), _bounds(report["replay_interval"]), "", "")
    fixed = report["best_fixed_action"]
    rows = {f"best fixed action: {fixed['action']}": fixed, **report["estimates"]}
    for name, one in rows.items():
        table.add_row(
            name,
            _number(one["value"]),
            _bounds((one["low"], one["high"])),
            _bounds(one.get("always_valid")),
            f"{one['ess']:.0f}",
        )
    talk.print(table)
    for name, one in rows.items():
        if "reason" in one:
            say(f"{name}: {one['reason']}", style="yellow")
    if gain := report["gain_over_best_fixed_action"]:
        say(f"gain over the best fixed action: {gain['value']:.4f} {_bounds((gain['low'], gain['high']))}")


def _with_interval(row: dict[str, Any], metric: str) -> str:
    return f"{_number(row[metric])} {_bounds(row['intervals'].get(metric))}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(bounds: Any) -> str:
    if bounds is None or bounds[0] is None:
        return ""
    return f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"
