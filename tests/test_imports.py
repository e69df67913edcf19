"""Imports point down: cli -> sweep -> runs -> report, training, evals -> claims, models, data -> storage -> spec."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / "icl_jax"
# room -> rooms it may import from (its own always); a run draws its own figure, so that report stands below runs
ROOMS = {
    "storage": set(),
    "data": {"storage"},
    "models": {"storage"},
    "training": {"data", "models", "storage"},
    "evals": {"data", "models", "storage"},
    "dissect": {"data", "evals", "models", "storage"},
    "claims": {"storage"},
    "report": {"claims", "data", "storage"},
    "runs": {"data", "dissect", "models", "training", "evals", "report", "storage"},
    "bench": {"data", "dissect", "models", "training", "evals", "runs"},
    "sweep": {"claims", "data", "evals", "report", "runs", "storage", "training"},
    "cli": {"bench", "claims", "data", "evals", "report", "runs", "storage", "sweep", "training"},
}
# modules at the root, which all rooms may use: what is declared, and what has no room
BASE = {"spec", "sections", "registry", "plugins", "patches", "headlines", "hypers", "members", "inputs"} | {
    "rng",
    "names",
    "devices",
}


def imports(path: pathlib.Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("icl_jax"):
            parts = (node.module or "").split(".")[1:]
            yield from [parts] if parts else [[a.name] for a in node.names]


def test_rooms_import_downwards():
    wrong = []
    for room, allowed in ROOMS.items():
        for path in (PACKAGE / room).rglob("*.py"):
            for parts in imports(path):
                top = parts[0]
                if not (top == room or top in allowed or top in BASE):
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {'.'.join(parts)}")
    assert not wrong, wrong


def test_the_root_has_no_other_modules_and_these_look_up_to_no_room():
    assert {path.stem for path in PACKAGE.glob("*.py")} == BASE | {"__init__", "__main__"}
    rooms = {parts[0] for name in BASE for parts in imports(PACKAGE / f"{name}.py")} - BASE
    assert not rooms, rooms


def test_only_parallel_says_pmap():
    users = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if "jax.pmap" in p.read_text()]
    assert users == [pathlib.Path("training/parallel.py")]
