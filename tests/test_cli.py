"""The command line as a user meets it: exit codes, what stands on stdout, what a bad file leads to."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Rejected, decode
from stream.misspelt import misspelt
from stream.settings import all_settings
from tests.hostile import GOOD, HOSTILE

CAMPAIGN = {
    "campaign_id": "cart",
    "version": 1,
    "kind": "cart_abandonment",
    "message_class": "marketing",
    "delay_s": 60,
    "consent": {"when_unknown": "allow"},
}


def nudge(
    *arguments: str | Path, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    return subprocess.run(
        [sys.executable, "-m", "stream", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=180,
        env=clean | {"NUDGE_MAX_ITEMS": "1024"} | (environment or {}),
    )


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


def test_bad_configuration_is_78(tmp_path: Path) -> None:
    """A setting out of bounds, and a production profile that leaves consent open."""
    bad = nudge("config", "check", environment={"NUDGE_CAMPAIGNS__HOLDOUT_SHARE": "2"})
    open_ended = nudge("config", "check", environment={"NUDGE_PROFILE": "production"})

    assert (78, 78) == (bad.returncode, open_ended.returncode)
    assert "campaigns.holdout_share" in bad.stderr.decode()
    assert "NUDGE_CONSENT__WHEN_UNKNOWN" in open_ended.stderr.decode().replace("\n", "")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("NUDGE_CAMPAIGNS__CAPS", "x", "campaigns"),
        ("NUDGE_CAMPAIGNS__GO_LIVE", "soon", "campaigns.go_live"),
        ("NUDGE_CAMPAIGNS__DEFAULT_TIME_ZONE", "Mars/Olympus", "'Mars/Olympus' is no time zone"),
        ("NUDGE_CAMPAIGN__DAILY_CAP", "0", "did you mean NUDGE_CAMPAIGNS__DAILY_CAP?"),
        ("NUDGE_DAILY_CAP", "0", "did you mean NUDGE_CAMPAIGNS__DAILY_CAP?"),
        ("NUDGE_CLEANING__MAX_PRICE", "inf", "cleaning.max_price"),
        ("NUDGE_USER_TTL_DAYS", "inf", "user_ttl_days"),
        ("NUDGE_SEED", str(2**64), "seed"),
        ("NUDGE_QUIET__HOURS", "21:00-08:00", "NUDGE_QUIET__HOURS is no setting"),
    ],
)
def test_a_setting_that_would_mean_nothing_is_named(variable: str, value: str, says: str) -> None:
    """A zone that does not exist was UTC, and a cap that is misspelt was none, without a word."""
    done = nudge("config", "check", environment={variable: value})

    assert 78 == done.returncode
    assert says in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_demo_with_a_list_that_is_no_json_is_78() -> None:
    """As every other command."""
    done = nudge("demo", environment={"NUDGE_CAMPAIGNS__CAPS": "x"})

    assert 78 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr.decode()


def test_other_variables_that_begin_alike_are_none_of_ours() -> None:
    """Every setting is known; those of Kubernetes, of the tests and of the broker are passed by."""
    known = [name for name, _ in all_settings()]
    purpose = {"NUDGE_CONSENT__PURPOSES__EMAIL": "deny"}
    assert 0 == nudge("config", "check", environment=purpose).returncode
    shown = json.loads(nudge("config", "show", environment=purpose).stdout)
    assert {"email": "deny"} == shown["consent"]["purposes"]
    others = (
        "KAFKA",
        "CHALLENGER",
        "SERVICE_HOST",
        "SERVICE_PORT_METRICS",
        "PORT_9100_TCP_ADDR",
        "KAFKA_HOME",
        "FAILPOINT",
        "DATA",
    )

    assert {} == misspelt([*known, *(f"NUDGE_{name}" for name in others)])
    assert "NUDGE_CAMPAIGNS__DAILY_CAP" in known


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    """Of which no line can be read; a source that nobody knows is a usage error."""
    file = tmp_path / "u.data"
    file.write_text("1\t2\t5\t881250949\n")
    done = nudge("import", "taobao", file)

    assert (65, b"") == (done.returncode, done.stdout)
    assert "no line of 1 is of taobao" in done.stderr.decode()
    assert 0 == nudge("import", "movielens", file).returncode
    assert 0 == nudge("import", "movielens", file, "--from", "2020-01-01").returncode
    assert 2 == nudge("import", "gowalla", file).returncode


@pytest.mark.parametrize("order", ["stop", "resume"])
def test_a_campaign_without_a_name_is_not_all_of_them(order: str) -> None:
    """A script whose variable is not set stops nothing, and lets nothing go."""
    done = nudge(order, "messages", "--campaign", "", "--bootstrap", "127.0.0.1:1")

    assert 2 == done.returncode
    assert "campaign_id" in done.stderr.decode()


def test_a_folder_without_campaigns_is_not_valid(tmp_path: Path) -> None:
    """Who mistypes the folder learns of it; an empty bound of an import is no time."""
    (tmp_path / "other.csv").write_text("x\n")

    assert 65 == nudge("validate", tmp_path).returncode
    assert 2 == nudge("import", "taobao", tmp_path / "other.csv", "--from", "").returncode


def test_usage_errors_are_2(tmp_path: Path) -> None:
    """An unknown command, a missing file, a time that is none."""
    (tmp_path / "e.jsonl").write_bytes(GOOD)
    calls: list[list[str | Path]] = [
        ["teleport"],
        ["replay", "--events", tmp_path / "none", "--out", tmp_path],
        ["replay", "--events", tmp_path / "e.jsonl", "--out", tmp_path / "o", "--until", "soon"],
    ]

    assert [2, 2, 2] == [nudge(*call).returncode for call in calls]


def test_a_file_that_cannot_be_written_is_2(tmp_path: Path) -> None:
    """Named with its option; what the data set is read from is not overwritten either."""
    ratings, films, folder = tmp_path / "u.data", tmp_path / "u.item", tmp_path / "folder"
    ratings.write_text("1\t2\t5\t881250949\n")
    films.write_text("2|Legends|01-Jan-1995||http://x|" + "|".join("0" * 19) + "\n")
    folder.mkdir()
    calls: list[list[str | Path]] = [
        ["import", "movielens", ratings, "--catalogue", folder],
        ["import", "movielens", ratings, "--catalogue", ratings],
        ["import", "movielens", ratings, "--catalogue", films],
        ["simulate", "--duration", "10", "--catalogue", folder],
        ["simulate", "--duration", "10", "--offers", tmp_path / "none" / "offers.jsonl"],
        ["schemas", "write", ratings],
    ]
    done = [nudge(*call) for call in calls]

    assert [2] * 6 == [one.returncode for one in done]
    assert [b""] * 6 == [one.stdout for one in done]
    said = [one.stderr.decode() for one in done]
    assert ["Traceback" in text for text in said] == [False] * 6
    assert ["--catalogue" in text for text in said[:4]] == [True] * 4
    assert ("1\t2\t5\t881250949\n", 1) == (ratings.read_text(), len(films.read_text().splitlines()))


@pytest.mark.parametrize(
    "arguments", [("--seed", str(2**64)), ("--duration", "inf"), ("--rate", "inf"), ("--rate", "nan")]
)
def test_a_number_out_of_range_is_2(arguments: tuple[str, str]) -> None:
    """Also where it is larger than any number."""
    done = nudge("simulate", *arguments)

    assert (2, b"") == (done.returncode, done.stdout)
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize(
    "address", ["host:abc", "host:99999", "host:0", "", "a:9092,", "http://a:9092", "[::1:9092"]
)
def test_an_address_that_is_none_is_78(address: str) -> None:
    """Before anybody is asked there."""
    done = nudge("config", "check", environment={"NUDGE_KAFKA__BOOTSTRAP": address})

    assert 78 == done.returncode
    assert "is not host:port" in done.stderr.decode()


@pytest.mark.parametrize("address", ["a:9092", "a:9092, b.example:9093", "[::1]:9092", "[::1]", "a"])
def test_an_address_of_brokers(address: str) -> None:
    """Several, with or without ports."""
    assert 0 == nudge("config", "check", environment={"NUDGE_KAFKA__BOOTSTRAP": address}).returncode


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 10])
def test_nobody_reads_on(lines: int, unbuffered: str) -> None:
    """`nudge simulate | head` ends well and says nothing."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    with subprocess.Popen(
        [sys.executable, "-m", "stream", "simulate", "--duration", "3600", "--rate", "10"],
        env=clean | {"PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as simulating:
        assert simulating.stdout is not None
        assert simulating.stderr is not None
        read = [simulating.stdout.readline() for _ in range(lines)]
        simulating.stdout.close()
        said = simulating.stderr.read()
        simulating.wait(60)

    assert all(read)
    assert (0, b"") == (simulating.returncode, said)


@pytest.mark.parametrize(
    "arguments", [("simulate", "--duration", "60"), ("doctor", "--bootstrap", "127.0.0.1:1")]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_said(arguments: tuple[str, ...], unbuffered: str) -> None:
    """Also where it is full only when the last of the output is written; a traceback would say less."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUDGE_")}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "stream", *arguments],
            env=clean | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )

    assert 70 == done.returncode
    assert done.stderr.decode().endswith("nudge: [Errno 28] No space left on device\n")
    assert "Traceback" not in done.stderr.decode()


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


def test_a_broker_that_is_not_there_is_69() -> None:
    """`topics plan`, `produce` and `worker` say so, with the address; so is a setting that is none named."""
    address: list[str | Path] = ["--bootstrap", "127.0.0.1:1"]
    calls: list[list[str | Path]] = [
        ["topics", "plan", *address],
        ["produce", "-", *address],
        ["worker", *address],
    ]
    environment = {"NUDGE_METRICS_PORT": "0", "NUDGE_DAILY_CAP": "0"}
    done = [nudge(*call, environment=environment) for call in calls]
    examined = nudge("doctor", *address, "--json", environment=environment)

    assert "setting_unknown" in (done[2].stderr + done[2].stdout).decode()
    assert ["NUDGE_DAILY_CAP is no setting and says nothing"] == [
        one["detail"] for one in json.loads(examined.stdout) if "NUDGE_DAILY_CAP" in one["detail"]
    ]
    assert [69, 69, 69] == [result.returncode for result in done]
    assert ["127.0.0.1:1" in (r.stderr + r.stdout).decode() for r in done] == [True, True, True]


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
