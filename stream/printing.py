"""Reports as a person reads them, on stderr."""

from __future__ import annotations

from typing import Any

from rich.table import Column, Table

from stream.terminal import say, say_table

__all__ = ["show_comparison", "show_report", "show_validation"]


def show_report(report: dict[str, Any]) -> None:
    """Print what a replay counted: events, the funnel of each campaign, the quality of slates."""
    events = report["events"]
    say(
        f"{events['read']} events read: {events['accepted']} accepted ({events['unknown']} of unknown name), "
        f"{events['duplicate']} duplicates, {sum(events['rejected'].values())} rejected "
        f"{events['rejected'] or ''}; {report['throughput_events_per_s']:.0f} events/s"
    )
    if events["faulty"]:
        say(f"  accepted although faulty: {events['faulty']}", style="yellow")
    table = Table(
        Column("campaign", no_wrap=True),
        "armed",
        "cancelled",
        "pending",
        "eligible",
        "sent",
        "suppressed",
        box=None,
    )
    for campaign_id, funnel in report["campaigns"].items():
        numbers = (str(funnel[name]) for name in ("armed", "cancelled", "pending", "eligible", "sent"))
        reasons = ", ".join(f"{reason} {n}" for reason, n in funnel["suppressed"].items())
        table.add_row(campaign_id, *numbers, reasons)
    if report["campaigns"]:
        say_table(table)
    recommend = report["models"]["recommend"]
    if recommend["n"]:
        say(
            f"recommendations: {report['outputs']['recommendations']} slates; test-then-train recall@10 "
            f"{recommend['recall_at_10']:.4f} over {recommend['n']} events"
        )


def show_comparison(difference: dict[str, Any]) -> None:
    """Print what another configuration changes, campaign by campaign."""
    table = Table(
        Column("campaign", no_wrap=True),
        "sent A",
        "sent B",
        "both",
        "only A",
        "only B",
        "users A",
        "users B",
        "cost A",
        "cost B",
        box=None,
    )
    for campaign_id, told in difference["campaigns"].items():
        messages = (told["messages"][place] for place in ("both", "only_a", "only_b"))
        numbers = [told["a"]["sent"], told["b"]["sent"], *messages, told["a"]["users"], told["b"]["users"]]
        costs = [
            ", ".join(f"{cost:g} {currency}" for currency, cost in told[side]["cost"].items())
            for side in ("a", "b")
        ]
        table.add_row(campaign_id, *map(str, numbers), *costs)
    say_table(table)
    for campaign_id, told in difference["campaigns"].items():
        for change, n in told["changed"].items():
            say(f"  {campaign_id}: {change}: {n}")
    say(f"{difference['users_that_differ']} users get another number of messages")


def show_validation(report: dict[str, Any]) -> None:
    """Print what a file of events would lead to, with examples of what is wrong."""
    say(f"{report['read']} lines, {report['valid']} valid")
    for code, examples in report["examples"].items():
        rejected, faulty = report["rejected"].get(code, 0), report["faulty"].get(code, 0)
        counts_still = f", of which {faulty} count all the same" if faulty else ""
        say(f"  {code}: {rejected + faulty}{counts_still}", style="red")
        for example in examples:
            say(f"    line {example['line']} {example['path']}: {example['message']}")
    for name, seen in report["unknown"].items():
        hint = f" (did you mean {seen['nearest']!r}?)" if seen["nearest"] else ""
        say(f"  unknown event {name!r}: {seen['count']}{hint}", style="yellow")
    if report["out_of_order"]:
        say(f"  {report['out_of_order']} lines are older than the line above them", style="yellow")
