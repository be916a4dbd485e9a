"""Evaluations as a person reads them, on stderr."""

from __future__ import annotations

from typing import Any

from rich.table import Column, Table

from stream.terminal import say, say_table

__all__ = ["show_click", "show_offers", "show_recommend", "show_rejects"]


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
    _show_rows(rows, "recall_at_10", ("recall_at_20", "ndcg_at_10", "mrr", "coverage_at_10"))
    _show_slices(rows, "recall_at_10")
    _show_skipped(report["baselines_skipped"])


def show_click(report: dict[str, Any]) -> None:
    """Print the click model's metrics with intervals beside the baselines, and log loss by slice."""
    examples = report["examples"]
    show_rejects(examples["rejected"], examples["rejected_examples"])
    say(
        f"{report['n']} examples predicted; {examples['delayed_labels']} labels came later, "
        f"{examples['labels_never_learned']} of them after the last example"
    )
    rows = {"nudge": report, **report["baselines"]}
    _show_rows(rows, "log_loss", ("normalised_entropy", "auc", "ece", "calibration_ratio"))
    _show_slices(rows, "log_loss")
    _show_skipped(report["baselines_skipped"])


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
    table = Table(Column("", no_wrap=True), "value", "95 %", "always valid", "ESS", box=None)
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
    say_table(table)
    for name, one in rows.items():
        if "reason" in one:
            say(f"{name}: {one['reason']}", style="yellow")
    if gain := report["gain_over_best_fixed_action"]:
        say(f"gain over the best fixed action: {gain['value']:.4f} {_bounds((gain['low'], gain['high']))}")


def _show_rows(rows: dict[str, dict[str, Any]], first: str, others: tuple[str, ...]) -> None:
    """One line for us and each baseline; the first metric with its interval, and how far we lead."""
    table = Table(Column("", no_wrap=True), f"{first}, 95 %", *others, "nudge leads by, 95 %", box=None)
    for name, row in rows.items():
        lead = row["lead"][first] if "lead" in row else None
        table.add_row(
            name,
            f"{_number(row[first])} {_bounds(row['intervals'].get(first))}",
            *(_number(row.get(metric)) for metric in others),
            f"{_number(lead['value'])} {_bounds((lead['low'], lead['high']))}" if lead else "",
        )
    say_table(table)


def _show_slices(rows: dict[str, dict[str, Any]], metric: str) -> None:
    slices = next(iter(rows.values()))["slices"]
    table = Table(
        Column(metric, no_wrap=True), *(f"{name} ({one['n']})" for name, one in slices.items()), box=None
    )
    for name, row in rows.items():
        table.add_row(name, *(_number(one[metric]) for one in row["slices"].values()))
    say_table(table)


def _show_skipped(skipped: dict[str, str]) -> None:
    for name, reason in skipped.items():
        say(f"{name} did not run: {reason}", style="yellow")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _bounds(bounds: Any) -> str:
    if bounds is None or bounds[0] is None:
        return ""
    return f"[{bounds[0]:.4f}, {bounds[1]:.4f}]"
