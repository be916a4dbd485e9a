"""The shape of the code: layers hold, the core stays pure, files stay small, imports do no work."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "online_models", "stream")
PURE = ("schemas", "online_models", "stream/core")
# About 400 lines is where a file starts to have two jobs; the rest is for long tables and kernels.
MAX_LINES = 600
MAX_PROCESS_LINES = 60  # one screen: the flow can be read without scrolling
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "base_utils"}
# Results that differ between two runs of the same input, or code made from data.
IMPURE_NAMES = {"hash", "id", "open", "input", "print", "eval", "exec", "compile", "__import__", "breakpoint"}
IMPURE_ATTRIBUTES = {
    "now",
    "utcnow",
    "today",
    "time_ns",
    "perf_counter",
    "monotonic",
    "default_rng",
    "uuid1",
    "uuid4",
}
# One import per contract that must break it: file to append to, line to append.
OFFENCES = {
    "events flow one way": ("stream/settings.py", "import stream.cli"),
    "the core does no I/O": ("stream/core/engine.py", "import time"),
    "the contract needs msgspec, orjson and the standard library only": ("schemas/codec.py", "import numpy"),
    "models know neither Kafka nor JSON": ("online_models/hashing.py", "import json"),
    "the core uses third parties through models and schemas only": ("stream/core/engine.py", "import scipy"),
    "only the runtime knows Faust, Kafka and Prometheus": ("stream/replay.py", "import aiokafka"),
    "a worker never starts a broker": ("stream/replay.py", "import stream.runtime.broker"),
    "numba lives in the kernels": ("online_models/hashing.py", "import numba"),
    "kernels know arrays only": ("online_models/kernels/top_n.py", "import online_models.hybrid"),
    "feature hashing has one home": ("stream/core/engine.py", "import mmh3"),
    "River watches and measures; it does not serve": ("online_models/hybrid.py", "import river"),
    "oracles and peers stay in tests and benchmarks": ("online_models/hybrid.py", "import vowpalwabbit"),
}


def modules(*folders: str) -> list[Path]:
    """All Python files below the folders."""
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a tree and its pyproject.toml."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def contracts() -> list[dict[str, object]]:
    """Contracts as declared."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[dict[str, object]] = settings["tool"]["importlinter"]["contracts"]
    return found


def test_layers_hold() -> None:
    """No module imports what lies above it."""
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


def test_each_contract_breaks_when_offended(tmp_path: Path) -> None:
    """A contract that cannot fail protects nothing: one wrong import each, in a copy, is found and named."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in OFFENCES.values():
        with (tmp_path / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    broken = set(re.findall(r"^(.+?) BROKEN\b", result.stdout, flags=re.MULTILINE))
    assert set(OFFENCES) == broken, result.stdout
    assert set(OFFENCES) == {contract["name"] for contract in contracts()}


def test_every_module_of_stream_has_a_layer() -> None:
    """A module that no layer names could import anything."""
    (one_way,) = (contract for contract in contracts() if contract["id"] == "one-way")
    layers = one_way["layers"]
    assert isinstance(layers, list)
    named = {name.strip(" ()") for layer in layers for name in layer.replace(":", "|").split("|")}
    found = {f"stream.{path.stem}" for path in (ROOT / "stream").iterdir() if is_module(path)}
    assert set() == found - named


def is_module(path: Path) -> bool:
    """Whether a path in a package is a module or a subpackage."""
    if path.is_dir():
        return (path / "__init__.py").is_file()
    return path.suffix == ".py" and path.stem != "__init__"


@pytest.mark.parametrize("path", modules(*PACKAGES), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_size_and_a_name(path: Path) -> None:
    """A file does one job, says which in its first line, and is called after it."""
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    assert path.stem not in NAMELESS
    assert ast.get_docstring(ast.parse(source)), f"{path.name} starts without a docstring"


def test_the_flow_fits_one_screen() -> None:
    """`Engine.process` shows the whole flow without scrolling, and it is where readers are sent."""
    tree = ast.parse((ROOT / "stream" / "core" / "engine.py").read_text(encoding="utf-8"))
    lengths = [
        node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "process" and node.end_lineno is not None
    ]
    assert lengths
    assert max(lengths) <= MAX_PROCESS_LINES


def impurities(tree: ast.Module) -> list[str]:
    """Calls whose result two runs need not share, with their lines."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in IMPURE_NAMES or attribute in IMPURE_ATTRIBUTES:
            found.append(f"line {node.lineno}: {name or attribute}()")
    return found


@pytest.mark.parametrize("path", modules(*PURE), ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_code_asks_no_clock_and_no_chance(path: Path) -> None:
    """Time and chance come in as arguments; nothing is salted, read, printed or made from text."""
    assert [] == impurities(ast.parse(path.read_text(encoding="utf-8")))


def test_impurities_are_seen() -> None:
    """The scan above finds a salted hash, a clock and a generator seeded by the machine."""
    source = "a = hash('x')\nb = datetime.now()\nc = np.random.default_rng()\nd = len([])\n"
    assert ["line 1: hash()", "line 2: now()", "line 3: default_rng()"] == impurities(ast.parse(source))


def test_no_text_is_a_template_by_format() -> None:
    """`str.format` on a text that users may influence reads attributes; f-strings do not."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"format", "format_map"}
    ]
    assert [] == found


IMPORT_ALL = """
import importlib, pkgutil, sys, threading
modules = []
for package in sys.argv[1:]:
    root = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(root.__path__, package + ".")]
    modules += [root, *(importlib.import_module(name) for name in names if not name.endswith("__main__"))]
compiled = [
    f"{module.__name__}.{name}"
    for module in modules
    for name, value in vars(module).items()
    if getattr(value, "signatures", None)
]
assert not compiled, f"compiled at import: {compiled}"
assert threading.active_count() == 1, f"threads at import: {threading.enumerate()}"
print(len(modules))
"""


def test_imports_do_no_work() -> None:
    """Importing every module compiles no kernel, starts no thread and prints nothing."""
    command = [sys.executable, "-c", IMPORT_ALL, *PACKAGES]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > len(PACKAGES)
