"""Writes the pages that are tables of the code: settings, events and topics. Tests compare.

The words for each member of a closed set stand here; a member without words is a ``KeyError``.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from schemas.codec import MAX_DEPTH, MAX_ID_LENGTH, MAX_KEYS, MAX_RECORD_BYTES
from schemas.events import EVENT_NAMES, MAX_NUMBER
from schemas.reasons import EventKind, RejectCode, SuppressionReason
from stream.runtime.topics import TOPICS, TopicSpec
from stream.settings import all_settings

__all__ = ["pages"]

FOLDER: Final = Path(__file__).resolve().parent
MS_PER_DAY: Final = 86_400_000
NOTE: Final = "<!-- Written by docs/generate.py; change the code or that file, then run it. -->"

EFFECT: Final[dict[EventKind, str]] = {
    EventKind.VIEW: "interest in the item; counts for a browse reminder; answers a recommendation",
    EventKind.CLICK: "answers the impression of a list: reward 1; answers a recommendation",
    EventKind.LIST_VIEW: "impressions of its products: each that is not clicked in time is a reward of 0",
    EventKind.SEARCH: "counts as activity",
    EventKind.CART_ADD: "strong interest; arms a cart reminder and ends the item's browse reminder",
    EventKind.CART_REMOVE: "cancels the item's cart reminder",
    EventKind.CART_VIEW: "counts as activity",
    EventKind.CHECKOUT: "counts as activity",
    EventKind.ORDER: "bought: ends its products' reminders (all, if it names none); rewards the open offer",
    EventKind.ORDER_UPDATE: "counts as activity; never rejected as late or odd",
    EventKind.REFUND: "takes revenue and the reward of the last offer back",
    EventKind.CANCEL: "as a refund",
    EventKind.PROMOTION_VIEW: "counts as activity",
    EventKind.PROMOTION_CLICK: "rewards the offer it names",
    EventKind.COUPON: "entered or applied, rewards the offer it names",
    EventKind.WISH_ADD: "interest in the item",
    EventKind.WISH_REMOVE: "counts as activity",
    EventKind.SHARE: "counts as activity",
    EventKind.REVIEW: "interest in the item from four stars on; `rating` may be text",
    EventKind.EMAIL_DELIVERED: "counts in the funnel of its message; if no click follows, a reward of 0",
    EventKind.EMAIL_OPEN: "as delivered: mail programs open mails, too",
    EventKind.EMAIL_CLICK: "rewards the message that it names, and its offer; counts in the funnel",
    EventKind.EMAIL_BOUNCE: "counts in the funnel of the message that it names",
    EventKind.UNSUBSCRIBE: "no more messages on `channel` (without one: email)",
    EventKind.CONSENT: "sets consent: `properties.purposes`, `context.consent.categoryPreferences`",
    EventKind.REQUEST: "asks for recommendations for `slot` now; `product_id` is the item of the page",
    EventKind.EXPERIMENT: "counts as activity",
    EventKind.UNKNOWN: "accepted, counted as unknown, changes nothing",
}

REJECTED: Final[dict[RejectCode, tuple[str, str]]] = {
    RejectCode.TOO_LARGE: (
        f"more than {MAX_RECORD_BYTES} bytes",
        "send less; split long lists of products",
    ),
    RejectCode.NOT_JSON: ("not JSON", "mend the producer; Avro and Protobuf are not read"),
    RejectCode.BAD_UTF8: ("text that is not UTF-8", "mend the producer's encoding"),
    RejectCode.BAD_SHAPE: ("a field of the wrong type", "see `nudge.error.path`"),
    RejectCode.TOO_DEEP: (f"nested deeper than {MAX_DEPTH}", "flatten it"),
    RejectCode.TOO_MANY_KEYS: (f"an object of more than {MAX_KEYS} keys", "send what is used"),
    RejectCode.OUT_OF_RANGE: (f"a number beyond ±{MAX_NUMBER:.0e}, NaN or an infinity", "mend the number"),
    RejectCode.MISSING_MESSAGE_ID: (
        "no `messageId`",
        "give each event an id, the same when re-sent",
    ),
    RejectCode.MISSING_USER: ("neither `userId` nor `anonymousId`", "send one of them"),
    RejectCode.MISSING_EVENT: ("no `event`", "send the name"),
    RejectCode.MISSING_TIME: ("no `timestamp` and no `originalTimestamp`", "send one of them"),
    RejectCode.MISSING_PRODUCT: ("an event about one product names none", "send `product_id` or `sku`"),
    RejectCode.BAD_ID: (f"an id that is not 1 to {MAX_ID_LENGTH} printable characters", "send a plain id"),
    RejectCode.BAD_TIME: ("a time that is not RFC 3339", "send e.g. `2026-01-05T10:00:00.000Z`"),
    RejectCode.DUPLICATE: (
        "this `messageId` was applied before",
        "none: counted, no dead letter",
    ),
    RejectCode.LATE: (
        "further behind the watermark than `NUDGE_CLEANING__LATE_S`",
        "send sooner; check clocks and time zones",
    ),
    RejectCode.FUTURE: (
        "further ahead of the broker's time than `NUDGE_CLEANING__MAX_FUTURE_S`",
        "check clocks and time zones",
    ),
    RejectCode.BOT_RATE: (
        "more events of one user in a minute than `NUDGE_CLEANING__MAX_EVENTS_PER_MINUTE`",
        "stop the robot, or raise the limit",
    ),
    RejectCode.OUTLIER: (
        "price or quantity below 0 or beyond `NUDGE_CLEANING__MAX_PRICE`, `NUDGE_CLEANING__MAX_QUANTITY`",
        "mend the number, or raise the limit",
    ),
    RejectCode.POISON: (
        "the engine failed on it three times, or made a record of it that no topic takes: a bug of Nudge",
        "report it: [runbook](runbooks/NudgePoisonRecords.md)",
    ),
}

SUPPRESSED: Final[dict[SuppressionReason, str]] = {
    SuppressionReason.STOPPED: "an operator stopped all messages, or the campaign's",
    SuppressionReason.CAMPAIGN_INACTIVE: "the campaign is disabled, or outside its start and end",
    SuppressionReason.BACKFILL: "the message belongs to the time before `NUDGE_CAMPAIGNS__GO_LIVE`",
    SuppressionReason.EXPIRED: "it comes due, or quiet hours end, later than `expires_after_s` allows",
    SuppressionReason.INELIGIBLE: "the product was bought meanwhile, is hidden or out of stock, or its price "
    "is no longer lower",
    SuppressionReason.NOT_IN_AUDIENCE: "the campaign's `audience` does not hold for the user as it is now",
    SuppressionReason.UNSUBSCRIBED: "the user unsubscribed from the channel",
    SuppressionReason.NO_CONSENT: "the user denied the purpose, or never answered and silence means deny",
    SuppressionReason.COOLDOWN: "the campaign wrote to this user less than `cooldown_s` ago",
    SuppressionReason.NOT_RE_ELIGIBLE: "the same message (product, milestone) went to the user less than "
    "`re_eligible_after_s` ago",
    SuppressionReason.FREQUENCY_CAPPED: "`NUDGE_CAMPAIGNS__DAILY_CAP`, `NUDGE_CAMPAIGNS__CAPS`, or the "
    "campaign's `caps` or `max_per_day`",
    SuppressionReason.OUTRANKED: "the message waited for stronger ones, which took what the caps leave",
    SuppressionReason.BUDGET_EXHAUSTED: "this partition's share of the campaign's `budget` is used up",
    SuppressionReason.HOLDOUT: "the user is of the share that gets nothing, so that lift can be measured",
    SuppressionReason.NOTHING_CHOSEN: "the bandit preferred no offer, or the message is not worth its cost",
    SuppressionReason.FAILED: "the engine failed on it three times: a bug of Nudge, the log names its place",
}


def pages() -> dict[str, str]:
    """File name -> text of each generated page."""
    return {"settings.md": _settings_page(), "events.md": _events_page(), "topics.md": _topics_page()}


def _settings_page() -> str:
    rows = [
        (f"`{name}`", _type(field.annotation) + _bounds(field), _default(field), field.description or "")
        for name, field in all_settings()
    ]
    return f"""# Settings
{NOTE}

Settings are environment variables.
`nudge config show` prints those in force.
`nudge config check` checks them, and names variables that are nearly settings.
Where a command has an option for it, the option wins.
Times are seconds and shares are between 0 and 1 unless the name says otherwise.

`NUDGE_PROFILE=production` refuses what is only fit for trying out:
silence about consent must have a stated meaning, and new topics must have three replicas.

{_table(("variable", "type", "default", "meaning"), rows)}"""


def _events_page() -> str:
    names: dict[EventKind, list[str]] = {kind: [] for kind in EventKind}
    for name, kind in EVENT_NAMES.items():
        names[kind].append(name)
    events = [
        (", ".join(names[kind]) or "any other name", f"`{kind.value}`", EFFECT[kind]) for kind in EventKind
    ]
    codes = [(f"`{code.value}`", *REJECTED[code]) for code in RejectCode]
    reasons = [(f"`{reason.value}`", SUPPRESSED[reason]) for reason in SuppressionReason]
    return f"""# Events
{NOTE}

Producers send the Segment track envelope, one JSON object a record, with the names of its e-commerce spec.
The exact form is `schemas/published/event.v1.schema.json`; fields that we do not read are ignored.
The record's key is the `userId`, else the `anonymousId`: so one partition has all that a user does, and keeps
caps, cooldowns and cancellations. Another key does no harm as long as no user has two; where users have,
a purchase under one does not end a reminder under the other.
`nudge_events_foreign_key_total` counts accepted events whose key is another, or none.
A record may as well be a CloudEvent whose data is such an envelope, in binary or structured mode.
In the latter its `id` and `time` count where the envelope has none.

Names of GA4 (`purchase`) and of Braze (`ecommerce.order_placed`) mean the same as Segment's,
and so do their properties (`items[].item_id`, `transaction_id`, `variant_id`, `total_value` and others).
Braze's `cart_updated` counts as added to the cart, with `action: remove` as removed from it.
Without an action, or with `replace`, its products are the whole cart:
reminders of others end, and an empty list ends all.

## Names and what they do

Every accepted event of a known name also updates its user's profile: session, activity, time zone, consent.
Answers to consent count whatever becomes of the event that carries them, be it late, odd or unknown;
the latest by event time stands.

{_table(("event", "kind", "effect"), events)}
## Reject codes

A rejected record goes to the dead letter topic byte for byte,
with the code in the header `nudge.error.code` and the place in `nudge.error.path`.
Of one that unpacks to more than a dead letter may hold, the first 1.5 MB are kept,
and `nudge.error.cut` says how many bytes it had.
A header name that is no UTF-8 comes back with `\\xff` for what cannot be decoded.
Nothing stops for it.
Orders, refunds, cancellations, consent and unsubscribe are never rejected for being late or odd:
they still cancel, suppress and count as bought; they only teach nothing and arm nothing.
One whose time is in the future counts as of when the broker got it.
Where a list holds a product without an id, which may be any, all reminders end.

Nor are they rejected for a fault of their record, if it is JSON that names a user:
what can be read counts, numbers and times in text included,
and `nudge_events_faulty_total` counts it by the code that it would have;
a time that cannot be read is that of the broker;
an answer to a question of consent that cannot be read is a refusal, and such a channel is every one.
Of any other rejected record the answers to questions of consent count.

{_table(("code", "the record has", "remedy"), codes)}
## Suppression reasons

Every message that was eligible and not sent is a decision with one of these reasons,
the first that applies in this order.

{_table(("reason", "meaning"), reasons)}"""


def _topics_page() -> str:
    rows = [
        (
            f"`{spec.name}`",
            spec.key,
            spec.kind,
            "as the events" if spec.partitioned else "1",
            _retention(spec),
            spec.purpose,
        )
        for spec in TOPICS
    ]
    return f"""# Topics
{NOTE}

Names stand under `NUDGE_KAFKA__TOPIC_PREFIX` (`marketing.`).
`nudge topics plan` compares a cluster with this table, `nudge topics apply` creates what is missing.
Neither deletes a topic nor changes its partitions: users would move away from their state.

Partition p of the events writes partition p of every topic that is partitioned as the events.
Payloads are described in `schemas/published/asyncapi.yaml`.

{_table(("topic", "key", "kind", "partitions", "cleanup", "content"), rows)}"""


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join("empty" if part is type(None) else _type(part) for part in arguments)
    if origin is dict:
        return f"JSON object of {_type(arguments[1])}"
    if origin is tuple:
        return "pair of texts" if arguments[-1] is not ... else f"JSON list, each a {_type(arguments[0])}"
    names = {
        bool: "true or false",
        int: "integer",
        float: "number",
        str: "text",
        Path: "path",
        SecretStr: "text",
    }
    return names.get(annotation, "JSON")


def _bounds(field: FieldInfo) -> str:
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "max_length": "length ≤"}
    bounds = [
        f"{sign} {_number(getattr(entry, attribute))}"
        for entry in field.metadata
        for attribute, sign in words.items()
        if getattr(entry, attribute, None) is not None
    ]
    return f", {', '.join(bounds)}" if bounds else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.10g}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value == {}:
        return ""
    if isinstance(value, tuple):
        return f"`{json.dumps(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:.10g}`" if isinstance(value, float) else f"`{value}`"


def _retention(spec: TopicSpec) -> str:
    policy, retention = spec.config["cleanup.policy"], spec.config.get("retention.ms")
    if retention is None:
        return policy
    return f"{policy}, never" if retention == "-1" else f"{policy}, {int(retention) // MS_PER_DAY} days"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"docs/{name}\n")
