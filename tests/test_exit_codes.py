"""What `nudge` ends with where it cannot do what it was told, and that it says why, without a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream.misspelt import misspelt
from stream.settings import all_settings
from tests.hostile import GOOD
from tests.nudge_process import nudge


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
