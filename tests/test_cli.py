"""The command line as a user meets it: what stands on stdout, and what a bad file leads to."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Rejected, decode
from tests.hostile import GOOD, HOSTILE
from tests.nudge_process import nudge

CAMPAIGN = {
    "campaign_id": "cart",
    "version": 1,
    "kind": "cart_abandonment",
    "message_class": "marketing",
    "delay_s": 60,
    "consent": {"when_unknown": "allow"},
}


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every hostile line that has no line break, with good events before, between and after."""
    day = b'{"messageId":"w","userId":"w","timestamp":"2017-11-25T00:59:00Z","event":"Cart Viewed"}'
    lines = [day]
    for n, (_, raw, _) in enumerate(HOSTILE):
        good = GOOD.replace(b'"h-0"', f'"good-{n}"'.encode()).replace(b"u-hostile", f"g{n % 5}".encode())
        lines += [raw, good]
    path = tmp_path_factory.mktemp("hostile") / "hostile.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    return path


def fates() -> Counter[str]:
    """How often each fate stands in the list."""
    return Counter(case[2] for case in HOSTILE)


def test_replay_ends_every_hostile_line_with_its_fate(hostile_file: Path, tmp_path: Path) -> None:
    """Nothing stops, nothing later is affected, and every line is a dead letter, unknown or accepted."""
    done = nudge("replay", "--events", hostile_file, "--out", tmp_path, "--json", "--now", "2017-11-26")
    report = json.loads(done.stdout)
    wanted = fates()
    accepted, unknown = wanted.pop("accepted"), wanted.pop("unknown")
    letters = [json.loads(line) for line in (tmp_path / "dead-letters.jsonl").read_bytes().splitlines()]

    assert 0 == done.returncode, done.stderr
    assert dict(wanted) == report["events"]["rejected"]
    assert wanted == Counter(letter["code"] for letter in letters)
    assert unknown == report["events"]["unknown"]
    assert 1 + len(HOSTILE) + accepted + unknown == report["events"]["accepted"]
    assert 1 + 2 * len(HOSTILE) == report["events"]["read"]


def test_validate_finds_what_the_decoder_would_reject(hostile_file: Path) -> None:
    """Counts by code with examples, exit code 1, one JSON document on stdout."""
    done = nudge("validate", hostile_file, "--json")
    report = json.loads(done.stdout)
    found = [decode(case[1]) for case in HOSTILE]
    wire = Counter(one.code.value for one in found if isinstance(one, Rejected))

    assert 1 == done.returncode
    assert dict(wire) == report["rejected"]
    assert {"bad_shape": 1, "bad_time": 1} == report["faulty"]
    assert "Product Viewed" == report["unknown"]["Product Viewd"]["nearest"]
    assert {"line", "path", "message"} == set(report["examples"]["bad_time"][0])


def test_validate_accepts_a_good_file(tmp_path: Path) -> None:
    """Exit code 0."""
    path = tmp_path / "good.jsonl"
    path.write_bytes(GOOD + b"\n")

    assert 0 == nudge("validate", path).returncode


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"delay": 60, "delay_s": None}, "did you mean 'delay_s'"),
        ({"message_class": "promo"}, "$.message_class"),
        ({"message_class": None}, "message_class"),
        ({"kind": "telepathy"}, "$.kind"),
        ({"holdout_share": 1.5}, "$.holdout_share"),
    ],
)
def test_a_bad_campaign_is_named_with_file_line_and_remedy(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    """Exit code 65 and one sentence: file, line, field."""
    path = tmp_path / "campaigns.yaml"
    fields = {k: v for k, v in (CAMPAIGN | change).items() if v is not None}
    path.write_text("# campaigns\n- " + json.dumps(fields) + "\n")
    done = nudge("validate", path)

    assert 65 == done.returncode
    assert f"{path}:2" in done.stderr.decode().replace("\n", "")
    assert says in done.stderr.decode().replace("\n", " ")


def test_replay_is_driven_by_event_time_and_until(tmp_path: Path) -> None:
    """Timers due after the last event fire when --until says so, and not before."""
    events, campaigns = tmp_path / "events.jsonl", tmp_path / "c.yaml"
    events.write_bytes(GOOD.replace(b"Product Viewed", b"Product Added") + b"\n")
    campaigns.write_text(json.dumps([CAMPAIGN]))
    common: list[str | Path] = ["replay", "--events", events, "--campaigns", campaigns, "--json", "--out"]
    environment = {"NUDGE_CAMPAIGNS__HOLDOUT_SHARE": "0"}
    short = json.loads(nudge(*common, tmp_path / "a", environment=environment).stdout)
    until = ["--until", "2017-11-25T02:00:00Z"]
    long = json.loads(nudge(*common, tmp_path / "b", *until, environment=environment).stdout)

    assert (0, 1) == (short["campaigns"]["cart"]["sent"], long["campaigns"]["cart"]["sent"])
    assert 1 == short["campaigns"]["cart"]["pending"]


def test_campaigns_may_be_a_folder_of_files(tmp_path: Path) -> None:
    """YAML and JSON files of a folder are read together; an id twice is an error."""
    (tmp_path / "a.yaml").write_text(json.dumps([CAMPAIGN]))
    (tmp_path / "b.json").write_text(json.dumps(CAMPAIGN | {"campaign_id": "second"}))
    (tmp_path / "notes.txt").write_text("not a campaign")
    events = tmp_path / "events.jsonl"
    events.write_bytes(GOOD)
    common: list[str | Path] = [
        "replay",
        "--events",
        events,
        "--out",
        tmp_path / "out",
        "--campaigns",
        tmp_path,
    ]
    assert 0 == nudge(*common).returncode

    (tmp_path / "c.json").write_text(json.dumps(CAMPAIGN))
    twice = nudge(*common)

    assert 65 == twice.returncode
    assert "defined twice" in twice.stderr.decode()


def test_campaigns_may_be_json_lines(tmp_path: Path) -> None:
    """One campaign a line, as the campaigns topic holds them; an error names its line."""
    path = tmp_path / "campaigns.yaml"
    second = CAMPAIGN | {"campaign_id": "second"}
    path.write_text(json.dumps(CAMPAIGN) + "\n\n" + json.dumps(second) + "\n")
    done = nudge("validate", path, "--json")
    assert {"campaigns": ["cart", "second"]} == json.loads(done.stdout)

    path.write_text(json.dumps(CAMPAIGN) + "\n\n" + json.dumps(second | {"delay_s": -1}) + "\n")
    assert f"{path}:3" in nudge("validate", path).stderr.decode()


def test_validate_sees_what_a_file_holds(tmp_path: Path) -> None:
    """By its first record, not by its name alone."""
    campaign = json.dumps(CAMPAIGN)
    item, offer = (
        '{"item_id":"a","version":1}',
        '{"offer_id":"o","version":1,"cost":1,"value":2,"currency":"EUR"}',
    )
    files = {
        "campaigns.json": json.dumps([CAMPAIGN], indent=2),
        "one.json": campaign,
        "lines.jsonl": campaign + "\n",
        "items.jsonl": item + "\n",
        "bad_items.jsonl": item + "\n{}\n",
        "offers.jsonl": offer + "\n",
        "events.json": GOOD.decode() + "\n",
        "campaigns_with_a_fault.json": json.dumps([CAMPAIGN | {"delay": 3}]),
        "rows.jsonl": "[1]\n",
        "noise.json": "noise\n",
        "event_of_an_item.jsonl": GOOD.decode().replace("{", '{"item_id":"a",', 1) + "\n",
    }
    done = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        one = nudge("validate", tmp_path / name, "--json")
        done[name] = (one.returncode, sorted(json.loads(one.stdout)) if one.stdout else None)

    events = [
        "examples",
        "faulty",
        "first_time",
        "last_time",
        "out_of_order",
        "read",
        "rejected",
        "unknown",
        "valid",
    ]
    assert {
        "campaigns.json": (0, ["campaigns"]),
        "one.json": (0, ["campaigns"]),
        "lines.jsonl": (0, ["campaigns"]),
        "items.jsonl": (0, ["catalogue"]),
        "bad_items.jsonl": (65, None),
        "offers.jsonl": (0, ["offers"]),
        "events.json": (0, events),
        "campaigns_with_a_fault.json": (65, None),
        "rows.jsonl": (1, events),
        "noise.json": (1, events),
        "event_of_an_item.jsonl": (0, events),
    } == done


def test_simulate_writes_the_same_bytes_and_they_are_valid(tmp_path: Path) -> None:
    """Same seed, same bytes; every line decodes; the reference files fit."""
    arguments = ["simulate", "--seed", "7", "--users", "50", "--duration", "600", "--rate", "2"]
    one = nudge(*arguments, "--catalogue", tmp_path / "items.jsonl", "--offers", tmp_path / "offers.jsonl")
    other = nudge(*arguments)
    events = tmp_path / "events.jsonl"
    events.write_bytes(one.stdout)
    done = nudge(
        *("replay", "--events", events, "--out", tmp_path / "out", "--json"),
        *("--catalogue", tmp_path / "items.jsonl", "--offers", tmp_path / "offers.jsonl"),
    )
    report = json.loads(done.stdout)

    assert one.stdout == other.stdout
    assert {} == report["events"]["rejected"]
    assert 0 == report["events"]["unknown"]
    assert report["outputs"]["recommendations"] > 50
    assert sum(report["outputs"]["offers"].values()) > 5


def test_import_reads_stdin_and_writes_events(tmp_path: Path) -> None:
    """Events on stdout, sorted; what was dropped is said on stderr."""
    lines = b"1,10,100,pv,1511544070\n1,11,100,cart,1511544060\n2,12,100,buy,999\nbroken\n"
    done = nudge("import", "taobao", "-", "--from", "2017-11-24", "--to", "2017-12-04", stdin=lines)
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]

    assert 0 == done.returncode
    assert ["Product Added", "Product Viewed"] == events
    assert "1 malformed" in done.stderr.decode().replace("\n", " ")
