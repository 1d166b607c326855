"""The house rules: imports go down only, and each outside library has its place."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

import hf_lrcompress

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "hf_lrcompress"
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))


def floors() -> list[set[str]]:
    """The rooms of every floor, from bottom to top, as CONTRIBUTING's table has them."""
    rows = re.findall(r"^\| (`.*?`) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    return [{name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`(.*?)`", row)} for row in rows]


FLOORS = floors()
PLACES = {
    "datasets": {"texts", "evaluation", "commands", "benchmarks"},
    "adapters": {"evaluation"},
    "huggingface_hub": {"publishing", "models", "commands"},
    "matplotlib": {"figures"},
    "tabulate": {"tables", "benchmarks"},
    "onnx": {"export"},
    "onnx_ir": {"export"},
    "onnxruntime": {"export"},
}


def imported_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        return {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "hf_lrcompress" else {node.module}
    return set()


def imports_of(path: Path) -> set[str]:
    return set().union(*map(imported_by, ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))))


def part_of(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


def floor_of(part: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if part in floor)


def test_contributing_names_every_room_once():
    rooms = {part_of(path) for path in MODULES} - {"__init__"}
    named = [room for floor in FLOORS for room in floor]
    assert sorted(named) == sorted(rooms)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py" or len(path.parts) > 2], ids=str)
def test_imports_go_down_only(path):
    part = part_of(path)
    for name in imports_of(path):
        if name.startswith("hf_lrcompress."):
            imported = name.split(".")[1]
            assert imported == part or floor_of(imported) < floor_of(part), f"{path} imports {name}"
        if name.split(".")[0] in PLACES:
            assert part in PLACES[name.split(".")[0]], f"{path} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[1] == "surgery"], ids=str)
def test_surgery_knows_torch_and_transformers_only(path):
    allowed = {"torch", "transformers", "tokenizers", "hf_lrcompress", "collections", "dataclasses", "itertools", "json"}
    allowed |= {"copy", "typing", "heapq", "re", "unicodedata"}
    assert {name.split(".")[0] for name in imports_of(path)} <= allowed


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[1] == "surgery"], ids=str)
def test_surgery_has_no_question_about_a_model_type(path):
    assert "model_type" not in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_and_functions_stay_small(path):
    source = (ROOT / path).read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250, f"{path} has more than 250 lines: split it"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


SCRIPTS = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*.py"))
UNIX_ONLY = {"resource", "fcntl", "termios", "pwd", "grp"}


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=str)
def test_every_module_can_be_imported_on_windows(path):
    """What only Unix has is imported where it is used, after a question about the platform."""
    statements = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    while statements:
        statement = statements.pop()
        if isinstance(statement, ast.Import | ast.ImportFrom):
            assert not UNIX_ONLY & {name.split(".")[0] for name in imported_by(statement)}
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            statements += [inner for inner in ast.iter_child_nodes(statement) if isinstance(inner, ast.stmt)]


def test_every_public_name_is_documented():
    for name in hf_lrcompress.__all__:
        assert len(getattr(hf_lrcompress, name).__doc__) > 100, name


def test_a_public_name_is_for_type_checkers_what_it_is_at_run_time():
    nodes = ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")))
    checked = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("hf_lrcompress")]
    places = {alias.name: node.module for node in checked for alias in node.names}
    assert places == {name: f"hf_lrcompress.{module}" for name, module in hf_lrcompress._MODULES.items()}
    assert hf_lrcompress.__all__ == list(hf_lrcompress._MODULES)


def test_a_checkout_that_is_not_installed_works_and_says_so(monkeypatch):
    def not_found(name):
        raise importlib.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", not_found)
        assert importlib.reload(hf_lrcompress).__version__ == "0+not.installed"
    assert importlib.reload(hf_lrcompress).__version__ != "0+not.installed"
