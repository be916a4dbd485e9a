"""The contract: what producers may send and what we send. Imports msgspec, orjson and the stdlib only."""

from schemas.campaigns import Campaign
from schemas.catalogue import Item, Offer
from schemas.codec import Rejected, decode, encode, headers_of
from schemas.events import Event
from schemas.outputs import DeadLetter, Decision, Recommendation, Trigger
from schemas.reasons import EventKind, RejectCode, SuppressionReason

__all__ = [
    "Campaign",
    "DeadLetter",
    "Decision",
    "Event",
    "EventKind",
    "Item",
    "Offer",
    "Recommendation",
    "RejectCode",
    "Rejected",
    "SuppressionReason",
    "Trigger",
    "decode",
    "encode",
    "headers_of",
]
