from __future__ import annotations

import json
from pathlib import Path

import yaml

from stream.runtime.asyncapi import published
from stream.runtime.topics import TOPICS

FOLDER = Path(__file__).parents[2] / "schemas" / "published"


def test_published_documents_are_fresh() -> None:
    """What is committed is what the code generates: `nudge schemas write` after a change."""
    assert published() == {path.name: path.read_text() for path in FOLDER.iterdir()}


def test_every_schema_is_a_closed_document_of_its_dialect() -> None:
    """Each names JSON Schema 2020-12, has an id of its own, and its references resolve inside."""
    ids = set()
    for path in FOLDER.glob("*.json"):
        schema = json.loads(path.read_text())
        ids.add(schema["$id"])
        references = {
            value
            for value in _values(schema, "$ref")
            if value.removeprefix("#/$defs/") not in schema["$defs"]
        }

        assert "https://json-schema.org/draft/2020-12/schema" == schema["$schema"]
        assert set() == references
    assert len(ids) == len(list(FOLDER.glob("*.json")))


def test_asyncapi_covers_every_topic_with_a_public_payload() -> None:
    """Channels are those of the topic table, and every payload points to a published schema."""
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    addresses = {channel["address"] for channel in document["channels"].values()}
    known = {f"marketing.{spec.name}" for spec in TOPICS}
    payloads = {value.removeprefix("./") for value in _values(document, "$ref") if value.startswith("./")}

    assert addresses <= known
    assert payloads == {path.name for path in FOLDER.glob("*.json")}


def _values(node: object, name: str) -> list[str]:
    """Every value of a key, however deep."""
    if isinstance(node, dict):
        own = [node[name]] if isinstance(node.get(name), str) else []
        return own + [value for inner in node.values() for value in _values(inner, name)]
    if isinstance(node, list):
        return [value for inner in node for value in _values(inner, name)]
    return []
