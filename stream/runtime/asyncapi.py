"""The AsyncAPI 3 document of our topics, generated from the table that ``nudge topics`` applies.

So what the document says of keys, partitions and retention cannot drift from what the cluster gets.
Source: AsyncAPI 3.0 with the Kafka bindings 0.5.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from schemas.published_documents import documents
from stream.runtime.topics import TOPICS

if TYPE_CHECKING:
    from stream.runtime.topics import TopicSpec

__all__ = ["asyncapi_document", "published"]

PREFIX = "marketing."
# Topic -> the JSON Schema of its values; the others are our own bookkeeping in binary form.
_PAYLOADS = {
    "events.v1": "event.v1",
    "catalogue.v1": "item.v1",
    "offers.v1": "offer.v1",
    "campaigns.v1": "campaign.v1",
    "commands.v1": "command.v1",
    "recommendations.v1": "recommendation.v1",
    "triggers.v1": "trigger.v1",
    "triggers-dry-run.v1": "trigger.v1",
    "segments.v1": "segment.v1",
    "decisions.v1": "decision.v1",
    "events.v1.dlq": None,
}
# Segments share the campaigns' topic, under keys of their own.
_ALSO = {"campaigns.v1": {"segment-definition-v1": "segment-definition.v1"}}
_WRITTEN_BY_US = {"output"}


def published() -> dict[str, str]:
    """File name -> text of every generated document of the contract."""
    return documents() | {"asyncapi.yaml": asyncapi_document()}


def asyncapi_document() -> str:
    """Write the document as YAML, in the order of the table."""
    topics = [spec for spec in TOPICS if spec.name in _PAYLOADS]
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Nudge",
            "version": "1.0.0",
            "description": "Behaviour events in; recommendations, offers and triggered messages out.",
        },
        "defaultContentType": "application/json",
        "channels": {_name(spec): _channel(spec) for spec in topics},
        "operations": {_name(spec): _operation(spec) for spec in topics},
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _name(spec: TopicSpec) -> str:
    return spec.name.replace(".", "-")


def _channel(spec: TopicSpec) -> dict[str, Any]:
    return {
        "address": PREFIX + spec.name,
        "description": spec.purpose,
        "messages": {
            _name(spec): _message(spec, _PAYLOADS[spec.name]),
            **{name: _message(spec, schema) for name, schema in _ALSO.get(spec.name, {}).items()},
        },
        "bindings": {"kafka": {"topic": PREFIX + spec.name, "topicConfiguration": _configuration(spec)}},
    }


def _configuration(spec: TopicSpec) -> dict[str, Any]:
    """Bring the topic's settings to the binding's types: a list of policies, numbers as numbers."""
    known: dict[str, Any] = {}
    if "cleanup.policy" in spec.config:
        known["cleanup.policy"] = spec.config["cleanup.policy"].split(",")
    for name in ("retention.ms", "delete.retention.ms"):
        if name in spec.config:
            known[name] = int(spec.config[name])
    return known


def _message(spec: TopicSpec, schema: str | None) -> dict[str, Any]:
    message: dict[str, Any] = {
        "bindings": {"kafka": {"key": {"type": "string", "description": spec.key}}},
    }
    if schema is None:
        message["summary"] = "The rejected record as it came, with the reason in its headers."
    else:
        message["payload"] = {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{schema}.schema.json"},
        }
    return message


def _operation(spec: TopicSpec) -> dict[str, Any]:
    return {
        "action": "send" if spec.kind in _WRITTEN_BY_US else "receive",
        "channel": {"$ref": f"#/channels/{_name(spec)}"},
    }
