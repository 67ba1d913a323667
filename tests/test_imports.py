"""Imports go down the floors of the house only; rooms on one floor do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jax_prune"
FLOORS = [
    {"types", "errors", "settings", "storage", "stages", "progress", "distributed"},
    {"nets", "datasets"},
    {"pruning"},
    {"evosearch", "learning"},
    {"deploy", "report"},
    {"compress", "rounds", "searching", "narrowing", "counts_search", "beyond_chance", "lesson", "baselines", "plan",
     "fitting", "targets"},
    {"studies"},
    {"cli", "flags", "__main__"},
]  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ONE_ROOM = [FLOORS[0], FLOORS[5], {"cli", "flags", "__main__"}]
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports when it is loaded or run, TYPE_CHECKING blocks aside."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    rooms = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax_prune":
            parts = (node.module or "").split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jax_prune.")}
    return rooms & FLOOR.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOOR, f"{room} has no floor: give it one here and in CONTRIBUTING.md"
    for other in imported_rooms(path) - {room}:
        beside = any({room, other} <= together for together in ONE_ROOM)
        assert FLOOR[other] < FLOOR[room] or beside, (
            f"{path.name} (floor {FLOOR[room]}) imports {other} ({FLOOR[other]})"
        )


def test_the_reader_of_imports_sees_them():
    assert {"learning", "pruning", "rounds", "plan"} <= imported_rooms(PACKAGE / "compress.py")


PICKLES = {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
UNPICKLER = PACKAGE / "datasets" / "har" / "raw_pickle.py"  # a closed list of names, for preparing data alone


def test_no_file_reads_pickles():
    for path in FILES:
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
        assert bool(names & PICKLES) == (path == UNPICKLER), path
