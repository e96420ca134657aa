"""What the package is made of: who imports whom, what a wheel holds, and that nothing unpickles."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import routing_env

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"routing_env": ROOT / "routing_env", "agents": ROOT / "agents", "baselines": ROOT / "baselines"}

LAYERS = [
    {"interrupts", "torch_settings", "names", "checkpoint", "state_dicts"},
    {"search_space"},
    {"types", "evaluations"},
    {"capturable"},
    {"scenarios"},
    {"data"},
    {"game"},
    {"analysis"},
    {"drawing"},
    {"html"},
    {"envs", "testing"},
    {"routing_v0"},
    {"runs"},
    {"benchmark"},
    {"options"},
    {"cli"},
    {"__main__"},
    {"maintenance"},
]
"""Every part imports from the layers above it in this list, and from itself."""

APART = {
    "agents": {"agents", "torch_settings", "types", "capturable", "names", "search_space", "state_dicts"},
    "baselines": {"baselines", "torch_settings", "types", "names", "search_space", "game"},
}
"""Parts that stand aside: what they import. Only runs, what stands on them, and the command line import them."""


def files() -> list[tuple[str, Path]]:
    """Every Python file with its place in the installed package."""
    found: list[tuple[str, Path]] = []
    for name, folder in FOLDERS.items():
        prefix = "routing_env" if name == "routing_env" else f"routing_env/{name}"
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder)
            if name != "routing_env" or inside.parts[0] not in APART:  # there they are links
                found.append((f"{prefix}/{inside.as_posix()}", path))
    return found


def part_of(module: str) -> str:
    """``game`` for ``routing_env.game`` and ``data`` for ``routing_env.data.base``."""
    return module.split(".")[1].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules of this package that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("routing_env."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "routing_env":
                yield from (f"routing_env.{alias.name}" for alias in node.names if alias.name != "__version__")
            elif node.module and node.module.startswith("routing_env."):
                yield node.module


def allowed(part: str) -> set[str]:
    if part in APART:
        return APART[part]
    (rank,) = [rank for rank, layer in enumerate(LAYERS) if part in layer] or pytest.fail(f"{part} has no layer yet")
    both = {part}.union(*LAYERS[:rank])
    return both | set(APART) if part in ("runs", "benchmark", "maintenance", "cli") else both


@pytest.mark.parametrize("place", [place for place, _ in files() if place != "routing_env/__init__.py"])
def test_imports_run_one_way(place: str) -> None:
    part = part_of(place.replace("/", "."))
    tree = ast.parse(dict(files())[place].read_text(encoding="utf-8"))
    strange = {module for module in imports(tree) if part_of(module) not in allowed(part)}
    assert not strange, f"{place} must not import {strange}"


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes, functions and type aliases that a module defines for others."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            yield from (name for name in names if name[0].isupper() and not name.isupper())


INTERFACES = {"load", "main"}
"""Functions that several modules have by convention: the loader of a data set, a command line."""


def test_no_two_public_things_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for place, path in files():
        if place == "routing_env/cli.py":  # its functions are the commands, named as a user types them
            continue
        for name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
            if not name.startswith("_") and name not in INTERFACES and name not in {"T", "P", "R"}:
                places.setdefault(name, []).append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_room_is_more_than_a_fifth_of_the_house() -> None:
    lines: dict[str, int] = {}
    for place, path in files():
        if "/maintenance/" not in place:
            lines[part_of(place.replace("/", "."))] = lines.get(part_of(place.replace("/", ".")), 0) + len(
                path.read_text(encoding="utf-8").splitlines()
            )
    assert max(lines.values()) < sum(lines.values()) / 5, lines


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, routing_env; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_by_plain_sgd_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    code = """
import sys
from routing_env.cli import main

sys.argv[1:] = "train --data planted --data-options samples=60 --epochs 1 --no-reference".split()
main()
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_the_package_imports_only_what_it_requires() -> None:
    distributions = importlib.metadata.packages_distributions()
    required = {"tensordict", "torchrl"}  # which come with benchmarl
    for requirement in importlib.metadata.requires("routing-env") or []:
        name, _, marker = requirement.partition(";")
        if not any(f'"{extra}"' in marker for extra in ("test", "dev", "docs")):
            required |= set(re.findall(r"^[\w-]+", name.lower()))
    for place, path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for module in {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {"routing_env"}:
                names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
                assert required & names, f"{place} imports {module}"


def test_every_public_name_is_there() -> None:
    for name in routing_env.__all__:
        assert getattr(routing_env, name) is not None
    assert set(routing_env.__all__) <= set(dir(routing_env))
    with pytest.raises(AttributeError, match="no attribute 'RoutingGamme'"):
        _ = routing_env.RoutingGamme  # pyright: ignore[reportAttributeAccessIssue]


UNPICKLING_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def test_nothing_unpickles() -> None:
    for place, path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & UNPICKLING_MODULES, place
            elif isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in UNPICKLING_MODULES, place
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr != "read_pickle", place
                if node.func.attr == "load" and isinstance(node.func.value, ast.Name):
                    assert node.func.value.id != "torch", f"{place} calls torch.load"
                for keyword in node.keywords:
                    refused = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    assert keyword.arg != "allow_pickle" or refused, f"{place} allows pickles"


def test_no_file_is_too_long_to_read() -> None:
    lengths = {place: len(path.read_text(encoding="utf-8").splitlines()) for place, path in files()}
    assert {place: length for place, length in lengths.items() if length > 400} == {}


def _setuptools_is_too_old() -> bool:
    if importlib.util.find_spec("setuptools") is None:
        return True
    return int(importlib.metadata.version("setuptools").split(".")[0]) < 77


@pytest.mark.skipif(_setuptools_is_too_old(), reason="the build backend, setuptools>=77, is not installed")
def test_a_wheel_holds_the_tree_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, folder in FOLDERS.items():
        shutil.copytree(folder, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    built = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    zoo = {f"routing_env/zoo/{path.parent.name}/{path.name}" for path in (ROOT / "routing_env/zoo").glob("*/*")}
    page = {f"routing_env/html/{name}" for name in ("page.html", "page.css", "page.js", "replay.js")}
    code = {place for place, _ in files() if "/maintenance/" not in place}
    others = {f"routing_env/{name}" for name in ("py.typed", "data/digits.npz", "game/linear_maps.cpp")}
    assert names == code | zoo | page | others


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_commands_in_the_docs_can_be_pasted(page: Path) -> None:
    """What explains a command stands behind a #, and files of settings are named as ``tune`` names them."""
    for line in page.read_text().splitlines():
        if line.startswith("    routing-env "):
            command = line.partition("#")[0].strip()
            assert "  " not in command, f"{page.name}: {line}"
            for settings in re.findall(r"--settings runs/(\S+)", command):
                assert re.fullmatch(r"tuning/\w+/tuned-\d+epochs-fraction[\d.]+\.json", settings), line
