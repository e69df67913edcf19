"""Every shipped sweep loads, checks its claims and plans, at each of its scales."""

import inspect
import json
import pathlib

import pytest
from test_config import LANGUAGE

from icl_jax.runs import config as cfg
from icl_jax.sweep import plan
from icl_jax.sweep.sheet import load_sheet
from icl_jax.sweep.sweep import open_sweep

IDS = json.loads((pathlib.Path(__file__).parent / "golden" / "cell_ids.json").read_text())
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def sources():
    """FILE:SCALE of every config that states a grid."""
    for path in sorted(CONFIGS.rglob("*.py")):
        if "def get_sweep(" in path.read_text() and path.name not in LANGUAGE:
            module, _ = cfg.load_module(path)
            scales = module.SCALES if inspect.signature(module.get_config).parameters else (None,)
            yield from (str(path) if scale is None else f"{path}:{scale}" for scale in scales)


@pytest.mark.parametrize("source", list(sources()), ids=lambda s: s.removeprefix(f"{CONFIGS}/"))
def test_every_shipped_sweep_plans(source, omniglot_dir, monkeypatch, tmp_path):
    """All is checked but the compiler's count of memory, which would compile every program."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(omniglot_dir))
    monkeypatch.setattr(plan, "fitting_width", lambda experiment, *_: (experiment.program.layout.width, 0))
    sheet = load_sheet(source)
    assert sheet.claims and "icl sweep run" in sheet.doc and sheet.title.endswith(".")
    sweep = open_sweep(sheet, tmp_path)
    for each in sweep.in_order():
        each.check()
        assert sum(len(population.cells) for population in each.proposed()) == len(each.cells)
    assert not list(tmp_path.iterdir())
    ids = IDS[source.removeprefix(f"{CONFIGS}/")]
    assert [cell.id for cell in sweep.cells] == ids.split(), "ids must stay: results on disk are found by them"


def test_scales_that_are_not_there_are_refused():
    for source in {s.partition(":")[0] for s in sources() if ":" in s}:
        with pytest.raises(ValueError, match=r"(laptop|gaussian).*(paper|omniglot)"):
            load_sheet(f"{source}:moon")
