"""Apache Kafka's jars for the test suite: fetched once by Maven, checked at each start.

Nothing is taken on trust: ``deploy/kafka/SHA256SUMS`` is our own list of what may run, and the class path
holds exactly its files, whatever else lies in the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["KAFKA_VERSION", "BrokerUnavailable", "install_kafka"]

KAFKA_VERSION = "3.9.1"
DOWNLOAD_TIMEOUT_S = 600.0  # 44 MB over a slow line; measured 30 s on a first download


class BrokerUnavailable(RuntimeError):  # noqa: N818 - what is missing is the name operators look for
    """A broker could not be started. The text names what is missing and the remedy."""


def install_kafka(home: Path | None = None, *, recipe: Path | None = None) -> list[Path]:
    """Return Kafka's jars, fetched by Maven when the cache lacks one or holds another than the manifest's.

    Parameters
    ----------
    home
        Directory of the jars. Default ``NUDGE_KAFKA_HOME``, else ``nudge/kafka-<version>`` in the user's
        cache directory.
    recipe
        Directory with ``pom.xml`` and ``SHA256SUMS``. Default ``deploy/kafka`` of the source tree.

    Returns
    -------
    list of Path
        Exactly the files of the manifest, each with its SHA-256 checked.

    Raises
    ------
    BrokerUnavailable
        No recipe, no Maven, no network, or jars that differ from the manifest.
    """
    home = home or _kafka_home()
    recipe = recipe or Path(__file__).resolve().parents[2] / "deploy" / "kafka"
    manifest = _manifest(recipe / "SHA256SUMS")
    jars = [home / name for name in manifest]
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.with_name(home.name + ".lock")):  # test processes may start at the same time
        if _first_wrong(home, manifest) is None:
            return jars
        fresh = Path(tempfile.mkdtemp(prefix=home.name + ".", dir=home.parent))
        try:
            _download(recipe / "pom.xml", fresh)
            if (wrong := _first_wrong(fresh, manifest)) is not None:
                raise BrokerUnavailable(
                    f"Apache Kafka {KAFKA_VERSION}: downloaded {wrong} is missing or differs from "
                    f"{recipe / 'SHA256SUMS'}; do not run it, and check the Maven repository in use"
                )
            shutil.rmtree(home, ignore_errors=True)
            fresh.rename(home)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return jars


def _kafka_home() -> Path:
    if chosen := os.environ.get("NUDGE_KAFKA_HOME"):
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "nudge" / f"kafka-{KAFKA_VERSION}"


def _manifest(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise BrokerUnavailable(
            f"Apache Kafka {KAFKA_VERSION}: {path} not found; "
            "run from a source checkout, or use the embedded broker"
        )
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {name: digest for digest, name in rows}


def _first_wrong(folder: Path, manifest: Mapping[str, str]) -> str | None:
    for name, digest in manifest.items():
        jar = folder / name
        if not jar.is_file() or hashlib.sha256(jar.read_bytes()).hexdigest() != digest:
            return name
    return None


def _download(pom: Path, target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerUnavailable(
            f"Apache Kafka {KAFKA_VERSION} is not in {_kafka_home()} and Maven (mvn) is not on PATH; "
            "install Maven, or point NUDGE_KAFKA_HOME at a filled directory"
        )
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    try:
        done = subprocess.run(
            [maven, "-q", "-B", "-f", str(pom), *goal],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerUnavailable(
            f"Apache Kafka {KAFKA_VERSION}: Maven took longer than {DOWNLOAD_TIMEOUT_S:.0f} s; "
            "check the network"
        ) from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[:8])
        raise BrokerUnavailable(
            f"Apache Kafka {KAFKA_VERSION}: Maven could not fetch the jars; "
            f"check the network and Maven's settings:\n{tail}"
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
