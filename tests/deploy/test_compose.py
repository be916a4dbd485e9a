"""The stack of one machine: what its file names exists, and nothing of it is open to the network."""

from __future__ import annotations

import base64
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.runtime.kafka_jars import KAFKA_VERSION
from stream.settings import Settings
from tests.command_lines import check_nudge, commands

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("nudge:")}
KEYS = {
    *(
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "entrypoint",
        "environment",
        "healthcheck",
        "image",
        "init",
    ),
    *(
        "ports",
        "profiles",
        "read_only",
        "restart",
        "security_opt",
        "stop_grace_period",
        "tmpfs",
    ),
    "volumes",
}


def test_the_services_are_those_of_the_stack() -> None:
    """Broker, one-shot topics, worker, monitoring; shoppers come with the profile demo alone."""
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert {"kafka", "topics", "worker", "prometheus", "grafana"} == always
    assert {"shoppers"} == set(SERVICES) - always
    assert {"topics", "worker", "shoppers"} == OURS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_well_formed(name: str) -> None:
    """Keys of the Compose specification, a pinned image, and only services, volumes and files that exist."""
    service = SERVICES[name]
    image, _, tag = service["image"].partition(":")
    assert set(service) <= KEYS
    assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), f"{image} is not pinned"
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    for published in service.get("ports", []):
        assert published.startswith("127.0.0.1:"), published


def test_versions_are_ours() -> None:
    """The image is tagged with the version of the package; the broker is the one of the tests."""
    assert {f"nudge:{VERSION}"} == {SERVICES[name]["image"] for name in OURS}
    assert f"apache/kafka:{KAFKA_VERSION}" == SERVICES["kafka"]["image"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_settings_exist_and_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable is a setting, and together they are accepted."""
    environment: dict[str, str] = SERVICES[name]["environment"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    dump = Settings().model_dump(mode="json")
    for variable, value in environment.items():
        found: Any = dump
        for part in variable.removeprefix("NUDGE_").lower().split("__"):
            found = found[part]
        assert value == str(found)


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_exist(name: str) -> None:
    """What our containers run parses as `nudge` would parse it."""
    service = SERVICES[name]
    if "entrypoint" not in service:
        check_nudge(service["command"])
        return
    (script,) = service["command"]
    ran = [command for command in commands(script.replace("$$", "$")) if command[0] == "nudge"]
    assert ran
    for command in ran:
        check_nudge(command[1:])


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_do_little(name: str) -> None:
    """Read-only root with a temporary directory, no capabilities, no new privileges, signals passed on."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert ["/tmp"] == service["tmpfs"]  # noqa: S108  a mount inside the container
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert service["init"] is True


def test_the_worker_waits_for_topics_and_is_reachable_by_prometheus() -> None:
    """Topics are there before the worker; it lives without Prometheus, and nothing of it is published."""
    worker = SERVICES["worker"]
    assert {"condition": "service_completed_successfully"} == worker["depends_on"]["topics"]
    assert {"condition": "service_healthy"} == SERVICES["topics"]["depends_on"]["kafka"]
    assert {"topics"} == set(worker["depends_on"])
    assert "0.0.0.0" == worker["environment"]["NUDGE_METRICS_HOST"]  # noqa: S104  of its container
    assert "unless-stopped" == worker["restart"]  # a machine that starts again starts it too
    assert not {"ports", "network_mode"} & set(worker)


def test_each_kind_of_client_has_a_listener_it_can_follow() -> None:
    """Containers are sent to `kafka`, programs of this machine to the published loopback port."""
    environment = SERVICES["kafka"]["environment"]
    bound, advertised, protocols = (
        dict(re.findall(r"([A-Z]+):(?://)?([^,]*)", environment[key]))
        for key in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")
    )
    bootstraps = {SERVICES[name]["environment"]["NUDGE_KAFKA__BOOTSTRAP"] for name in OURS}
    _, port, inside = SERVICES["kafka"]["ports"][0].split(":")
    assert {advertised["CONTAINERS"]} == bootstraps
    assert Settings.model_fields["kafka"].default.bootstrap == advertised["HOST"] == f"127.0.0.1:{port}"
    assert [f":{advertised['CONTAINERS'].split(':')[1]}", f":{inside}"] == [
        bound["CONTAINERS"],
        bound["HOST"],
    ]
    assert set(bound) == set(protocols)
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"].partition("@")[2] == bound["CONTROLLER"]
    assert {environment["KAFKA_CONTROLLER_LISTENER_NAMES"]} == set(bound) - set(advertised)
    assert environment["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    assert 16 == len(base64.urlsafe_b64decode(environment["CLUSTER_ID"] + "=="))


def test_one_node_asks_for_one_copy() -> None:
    """A single broker can neither replicate its internal topics nor ours."""
    environment = SERVICES["kafka"]["environment"]
    copies = {value for key, value in environment.items() if re.search(r"REPLICATION_FACTOR|MIN_ISR", key)}
    assert {"1"} == copies | {SERVICES["topics"]["environment"]["NUDGE_KAFKA__REPLICATION"]}


def test_monitoring_reads_our_files() -> None:
    """Prometheus gets the rule file where its configuration looks for it."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["prometheus"]["volumes"])
    flags = dict(flag.removeprefix("--").split("=") for flag in SERVICES["prometheus"]["command"])
    folder = Path(flags["config.file"]).parent
    assert flags["config.file"] == mounts["./prometheus/prometheus.yml"]
    assert [mounts["./prometheus/alerts.yml"]] == [str(folder / name) for name in config["rule_files"]]
