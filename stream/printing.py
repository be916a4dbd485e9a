"""Reports as a person reads them, on stderr."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from stream.terminal import talk

__all__ = ["show_report", "show_validation"]


def show_report(report: dict[str, Any]) -> None:
    """Print what a replay counted: events, the funnel of each campaign, the quality of slates."""
    events = report["events"]
    talk.print(
        f"{events['read']} events read: {events['accepted']} accepted ({events['unknown']} of unknown name), "
        f"{events['duplicate']} duplicates, {sum(events['rejected'].values())} rejected "
        f"{events['rejected'] or ''}; {report['throughput_events_per_s']:.0f} events/s",
        markup=False,
    )
    table = Table("campaign", "armed", "cancelled", "pending", "eligible", "sent", "suppressed", box=None)
    for campaign_id, funnel in report["campaigns"].items():
        numbers = (str(funnel[name]) for name in ("armed", "cancelled", "pending", "eligible", "sent"))
        reasons = ", ".join(f"{reason} {n}" for reason, n in funnel["suppressed"].items())
        table.add_row(campaign_id, *numbers, reasons)
    if report["campaigns"]:
        talk.print(table)
    recommend = report["models"]["recommend"]
    if recommend["n"]:
        talk.print(
            f"recommendations: {report['outputs']['recommendations']} slates; test-then-train recall@10 "
            f"{recommend['recall_at_10']:.4f} over {recommend['n']} events",
            markup=False,
        )


def show_validation(report: dict[str, Any]) -> None:
    """Print what a file of events would lead to, with examples of what is wrong."""
    talk.print(f"{report['read']} lines, {report['valid']} valid", markup=False)
    for code, n in report["rejected"].items():
        talk.print(f"  {code}: {n}", style="red", markup=False)
        for example in report["examples"][code]:
            talk.print(f"    line {example['line']} {example['path']}: {example['message']}", markup=False)
    for name, seen in report["unknown"].items():
        hint = f" (did you mean {seen['nearest']!r}?)" if seen["nearest"] else ""
        talk.print(f"  unknown event {name!r}: {seen['count']}{hint}", style="yellow", markup=False)
    if report["out_of_order"]:
        talk.print(f"  {report['out_of_order']} lines are older than the line above them", style="yellow")
