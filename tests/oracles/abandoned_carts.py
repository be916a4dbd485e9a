"""Which cart reminders a file of events calls for: a few lines that share nothing with the engine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

__all__ = ["abandoned_carts"]


def abandoned_carts(lines: Iterable[bytes], delay_s: float, lateness_s: float) -> set[tuple[str, str, str]]:
    """(user, product, messageId) of each arming that was neither moved nor answered by a purchase in time.

    The file is in order of time. A reminder needs the file to go on until its moment has come.
    """
    carted, bought = defaultdict(list), defaultdict(list)
    end = float("-inf")
    for line in lines:
        event = json.loads(line)
        time = datetime.fromisoformat(event["timestamp"]).timestamp()
        end = max(end, time)
        user = event.get("userId") or event["anonymousId"]
        if event["event"] == "Product Added":
            carted[user, str(event["properties"]["product_id"])].append((time, event["messageId"]))
        if event["event"] == "Order Completed":
            for product in event["properties"]["products"]:
                bought[user, str(product["product_id"])].append(time)
    reminders = set()
    for (user, product), armings in carted.items():
        for n, (time, message_id) in enumerate(armings):
            fires = time + delay_s + lateness_s
            moved = n + 1 < len(armings) and armings[n + 1][0] < fires
            if fires <= end and not moved and not any(time <= t < fires for t in bought[user, product]):
                reminders.add((user, product, message_id))
    return reminders
