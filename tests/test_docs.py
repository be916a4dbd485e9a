"""What is written is true: generated pages are fresh, every name is listed, links resolve, commands parse."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.generate import pages
from schemas.events import EVENT_NAMES
from schemas.reasons import RejectCode, SuppressionReason
from stream.runtime.metrics import METRICS
from stream.runtime.topics import TOPICS
from stream.settings import Settings, all_settings
from tests.command_lines import check_nudge, commands

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for folder, pattern in (
        (ROOT, "*.md"),
        *((ROOT / name, "**/*.md") for name in ("docs", "deploy", "benchmarks", "examples")),
    )
    for path in folder.glob(pattern)
)
SHELL_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
CLOSED_SETS = {
    "metrics.md": [spec.full_name for spec in METRICS],
    "settings.md": [name for name, _ in all_settings()],
    "topics.md": [spec.name for spec in TOPICS],
    "events.md": [*RejectCode, *SuppressionReason],
}


def page_id(path: Path) -> str:
    """A page as its path in the repository."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_generated_page_is_fresh(name: str) -> None:
    """The page is what docs/generate.py writes now."""
    assert pages()[name] == (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(CLOSED_SETS))
def test_every_member_has_a_line_of_its_own(name: str) -> None:
    """Each metric, setting, topic, reject code and suppression reason begins a row of its table, once."""
    first_cells = re.findall(r"^\| `([^`]+)` \|", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(CLOSED_SETS[name]) == sorted(first_cells)


def test_every_event_name_is_listed() -> None:
    """A producer finds each name that we understand, under the kind that it has."""
    rows = {
        kind: set(names.split(", "))
        for names, kind in re.findall(r"^\| ([^|`]+) \| `(\w+)` \|", pages()["events.md"], re.MULTILINE)
    }
    assert {name: kind for name, kind in EVENT_NAMES.items() if name not in rows.get(kind, set())} == {}
    assert len(EVENT_NAMES) == sum(map(len, rows.values())) - len(rows["unknown"])


@pytest.mark.parametrize("name", [name for name, _ in all_settings()])
def test_a_documented_variable_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting it to something else changes the settings, or is refused."""
    before = Settings()
    monkeypatch.setenv(name, "no-such-value")
    after = settings_or_refusal()
    assert before != after
    assert isinstance(after, Settings) or name.removeprefix("NUDGE_").lower().split("__")[0] in after


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    """A link inside the repository leads to a file that is there, and to a heading that it has."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link} leads nowhere"
        assert path.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            assert anchor in headings(path), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_shell_blocks_parse(page: Path) -> None:
    """Blocks marked `sh` are valid shell; each `nudge` command and option and each make target exists."""
    for block in SHELL_BLOCK.findall(page.read_text(encoding="utf-8")):
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, timeout=30, check=False
        )
        assert 0 == done.returncode, done.stderr
        for program, *arguments in commands(block):
            if program.removeprefix(".venv/bin/") == "nudge":
                check_nudge(arguments)
            if program == "make":
                assert {word for word in arguments if "=" not in word} <= TARGETS, arguments


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["publish", "x"], "no command 'publish'"),
        (["produce", "x", "--topics", "events"], "--topics"),
        (["produce"], "file is missing"),
        (["topics", "plan", "events"], "nothing takes"),
    ],
)
def test_a_wrong_command_is_found(arguments: list[str], fault: str) -> None:
    """The check of commands in pages tells each kind of mistake."""
    with pytest.raises(Exception, match=fault):
        check_nudge(arguments)


def test_scripts_are_split_into_commands() -> None:
    """Pipes, assignments, redirections, comments and continued lines do not hide a command."""
    script = "A=1 nudge import x --to 3 \\\n  | nudge produce - > out.log  # note\nmake test && make check\n"
    assert [
        ["nudge", "import", "x", "--to", "3"],
        ["nudge", "produce", "-"],
        ["make", "test"],
        ["make", "check"],
    ] == list(commands(script))


def settings_or_refusal() -> Settings | str:
    """The settings of the environment, or why they are refused."""
    try:
        return Settings()
    except ValueError as error:
        return str(error)


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
