"""What is shipped: the wheel's contents, the locks, and that both agree with pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "online_models", "stream")
LOCKS = ("lock.txt", "dev.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline by the locked hatchling."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def pinned(lock: str) -> dict[str, set[str]]:
    """Versions by package; a package has several where they depend on the Python version."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / lock).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def declared() -> list[Requirement]:
    """Dependencies of the project and of its demo."""
    project = PROJECT["project"]
    return [
        Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    ]


def grouped() -> list[tuple[str, Requirement]]:
    """Dependencies of all groups, with the lock that pins each."""
    return [
        ("peers.txt" if name == "peers" else "dev.txt", Requirement(entry))
        for name, group in PROJECT["dependency-groups"].items()
        for entry in group
        if isinstance(entry, str)
    ]


def test_wheel_holds_the_three_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Each file of the packages is in the wheel, and no test, benchmark or deployment file is."""
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    actual = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert expected == actual


@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_is_typed(wheel: zipfile.ZipFile, package: str) -> None:
    """Type checkers of our users see our annotations."""
    assert f"{package}/py.typed" in wheel.namelist()


def test_wheel_carries_the_published_contract(wheel: zipfile.ZipFile) -> None:
    """The generated schemas travel with the code that speaks them."""
    published = {name for name in wheel.namelist() if name.startswith("schemas/published/")}
    assert "schemas/published/asyncapi.yaml" in published
    assert any(name.endswith(".schema.json") for name in published)


def test_wheel_says_who_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, Python version, licence text, command and README."""
    (metadata_name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    folder = metadata_name.removesuffix("/METADATA")
    metadata = Parser().parsestr(wheel.read(metadata_name).decode())
    assert ("nudge", ">=3.11") == (metadata["Name"], metadata["Requires-Python"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert len(metadata.get_payload()) > 0
    assert b"Apache License" in wheel.read(f"{folder}/licenses/LICENSE")
    assert b"nudge = stream.cli:main" in wheel.read(f"{folder}/entry_points.txt")


def test_production_install_has_no_broker(wheel: zipfile.ZipFile) -> None:
    """noida-db comes with the extra `demo` alone."""
    (metadata_name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(metadata_name).decode())
    lines = [line for line in metadata.get_all("Requires-Dist", []) if line.startswith("noida-db")]
    assert len(lines) == 1
    assert "extra == 'demo'" in lines[0]


@pytest.mark.parametrize("lock", [*LOCKS, "peers.txt"])
def test_locks_hold_versions_and_hashes_only(lock: str) -> None:
    """Each package is pinned and hashed; no address of any machine is in the file."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.split("make lock\n", 1)[1].strip())
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+==[^ ]+ (; [^\\]+)?\\\n    --hash=sha256:[0-9a-f]{64}", entry), entry
    assert not re.search(r"https?://|file:|\s/|--index|--find-links|--trusted", text)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_locks_satisfy_what_is_declared(lock: str, requirement: Requirement) -> None:
    """A dependency changed in pyproject.toml without `make lock` is found here."""
    versions = pinned(lock)[canonicalize_name(requirement.name)]
    assert all(version in requirement.specifier for version in versions)


@pytest.mark.parametrize(("lock", "requirement"), grouped(), ids=str)
def test_groups_are_locked(lock: str, requirement: Requirement) -> None:
    """Tools are in the environment that `make setup` builds, and what is compared with in its own lock."""
    versions = pinned(lock)[canonicalize_name(requirement.name)]
    assert all(version in requirement.specifier for version in versions)


def test_peers_leave_the_environment_as_it_is() -> None:
    """`make peers` adds packages to the developers' environment and changes none of it."""
    ours, peers = pinned("dev.txt"), pinned("peers.txt")
    assert {name: peers[name] for name in ours.keys() & peers.keys()} == {
        name: ours[name] for name in ours.keys() & peers.keys()
    }
    assert "numpy" in peers


def test_development_and_production_run_the_same_versions() -> None:
    """What the tests ran with is what the image installs."""
    dev = pinned("dev.txt")
    differing = {name: (v, dev.get(name)) for name, v in pinned("lock.txt").items() if v != dev.get(name)}
    assert differing == {}
