"""JSON Schema 2020-12 documents, generated from the Structs; files under ``published/`` are these texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.commands import Command
from schemas.events import Track
from schemas.outputs import Decision, Membership, Recommendation, Trigger
from schemas.segments import Segment

if TYPE_CHECKING:
    from msgspec import Struct

__all__ = ["documents"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS: dict[str, type[Struct]] = {
    "event.v1": Track,
    "recommendation.v1": Recommendation,
    "trigger.v1": Trigger,
    "decision.v1": Decision,
    "segment.v1": Membership,
    "segment-definition.v1": Segment,
    "item.v1": Item,
    "offer.v1": Offer,
    "campaign.v1": Campaign,
    "command.v1": Command,
}


def documents() -> dict[str, str]:
    """File name -> text of each published schema."""
    return {f"{name}.schema.json": _document(name, kind) for name, kind in _DOCUMENTS.items()}


def _document(name: str, kind: type[Struct]) -> str:
    schema: dict[str, Any] = {"$schema": _DIALECT, "$id": f"urn:nudge:schema:{name}"}
    schema |= msgspec.json.schema(kind)
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode() + "\n"
