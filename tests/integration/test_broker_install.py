"""Kafka's jars: fetched once, checked always, and a clear word about what is missing.

Maven is played by a three-line shell script; nothing here needs the network or Java.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stream.runtime import kafka_jars
from stream.runtime.broker import BrokerUnavailable, KafkaBroker
from stream.runtime.kafka_jars import install_kafka

JAR = b"a jar"
RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "kafka"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A manifest of one jar."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "pom.xml").write_text("<project/>", encoding="ascii")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(JAR).hexdigest()}  one.jar\n", encoding="ascii")
    return folder


def play_maven(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Put a Maven on PATH that runs the script with $target set and notes each call."""
    folder.mkdir(exist_ok=True)
    maven = folder / "mvn"
    note = f'echo call >> "{folder}/calls"'
    find_target = 'for word; do target="${word#-DoutputDirectory=}"; done'
    maven.write_text(f"#!/bin/sh\n{note}\n{find_target}\n{script}\n", encoding="utf-8")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def calls(folder: Path) -> int:
    """How often Maven ran."""
    return len((folder / "calls").read_text(encoding="ascii").splitlines())


def test_jars_are_fetched_once(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call downloads, the second finds everything in place."""
    play_maven(monkeypatch, tmp_path / "bin", 'printf "a jar" > "$target/one.jar"')
    home = tmp_path / "cache" / "kafka"
    assert [home / "one.jar"] == install_kafka(home, recipe=recipe)
    assert [home / "one.jar"] == install_kafka(home, recipe=recipe)
    assert calls(tmp_path / "bin") == 1


def test_damaged_jar_is_fetched_again(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte in the cache is noticed before anything runs."""
    play_maven(monkeypatch, tmp_path / "bin", 'printf "a jar" > "$target/one.jar"')
    home = tmp_path / "kafka"
    (jar,) = install_kafka(home, recipe=recipe)
    jar.write_bytes(b"b jar")
    install_kafka(home, recipe=recipe)
    assert jar.read_bytes() == JAR
    assert calls(tmp_path / "bin") == 2


def test_other_jar_than_the_manifests_is_refused(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that differs never reaches the cache."""
    play_maven(monkeypatch, tmp_path / "bin", 'printf "evil" > "$target/one.jar"')
    with pytest.raises(BrokerUnavailable, match=r"one\.jar is missing or differs from"):
        install_kafka(tmp_path / "kafka", recipe=recipe)
    assert not (tmp_path / "kafka").exists()
    assert [path.name for path in tmp_path.glob("kafka*")] == ["kafka.lock"]


def test_maven_failure_is_told_with_its_reason(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without network the error carries Maven's own first lines."""
    play_maven(monkeypatch, tmp_path / "bin", 'echo "Could not transfer artifact"; exit 1')
    with pytest.raises(BrokerUnavailable, match=r"check the network(.|\n)*Could not transfer artifact"):
        install_kafka(tmp_path / "kafka", recipe=recipe)


def test_missing_maven_is_named(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing cached and no Maven: the error names the tool and both remedies."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BrokerUnavailable, match=r"Maven \(mvn\) is not on PATH; install Maven, or point NUDGE_KAFKA_HOME"
    ):
        install_kafka(tmp_path / "kafka", recipe=recipe)


def test_filled_cache_needs_no_maven(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with the right jars is enough, for machines without Maven or network."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NUDGE_KAFKA_HOME", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "one.jar").write_bytes(JAR)
    assert [tmp_path / "given" / "one.jar"] == install_kafka(recipe=recipe)


def test_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Java: the error says where it was looked for, before anything is downloaded."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(BrokerUnavailable, match="needs Java 17: java is neither in JAVA_HOME nor on PATH"):
        KafkaBroker(tmp_path / "data").start()


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    """An installed wheel has no deploy folder; the error says what to do instead."""
    with pytest.raises(BrokerUnavailable, match="SHA256SUMS not found; run from a source checkout"):
        install_kafka(tmp_path / "kafka", recipe=tmp_path)


def test_manifest_and_pom_name_the_same_version() -> None:
    """The version stands in the code, the pom and the manifest, and is the same."""
    version = kafka_jars.KAFKA_VERSION
    names = [line.split()[1] for line in (RECIPE / "SHA256SUMS").read_text(encoding="ascii").splitlines()]
    assert f"kafka_2.13-{version}.jar" in names
    assert sorted(names) == names
    assert f"<version>{version}</version>" in (RECIPE / "pom.xml").read_text(encoding="utf-8")
