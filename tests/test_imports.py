"""Imports point down: cli -> sweep -> api, report -> train, evals -> models, data -> spec, rng."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / "icl_jax"
# room -> rooms it may import from (its own always)
ROOMS = {
    "storage": set(),
    "data": set(),
    "models": set(),
    "training": {"data", "models", "storage"},
    "evals": {"data", "models", "storage"},
    "report": {"data"},
    "bench": {"data", "models", "training", "evals"},
    "sweep": {"data", "training", "evals", "report", "storage"},
    "cli": {"data", "training", "evals", "report", "bench", "sweep"},
}
# modules at the root that the rooms may use
BASE = {"spec", "registry", "inputs", "patches", "rng", "hypers", "names", "config", "devices"} | {
    "columns",
    "sections",
    "plugins",
    "headlines",
    "files",
    "paths",
}
# modules at the root that join the rooms, and the rooms that may use them
JOINTS = {
    "bench": {"experiment"},
    "cli": {"api", "doctor", "runplan", "sampling", "transfer"},
    "sweep": {"api", "doctor", "experiment", "initial", "rundir", "runplan", "transfer"},
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
                fine = top == room or top in allowed or top in BASE or top in JOINTS.get(room, ())
                if not fine:
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {'.'.join(parts)}")
    assert not wrong, wrong


def test_only_parallel_says_pmap():
    users = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if "jax.pmap" in p.read_text()]
    assert users == [pathlib.Path("training/parallel.py")]
