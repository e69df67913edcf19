"""A sweep of stages under attack: killed in and between its stages, or shared by workers, the results are the same."""

import pathlib
import random
import subprocess

import pytest
from test_sweep_kills import finish, results, same_bits, start

pytestmark = pytest.mark.slow
KILLS = 8

CONFIG = f"""
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from tiny import tiny_config
from icl_jax import Stage, grid

ENCODERS = grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2))

def make(steps, **changes):
    config = tiny_config(hypers__p_bursty=0.9, seeds__init=0, seeds__data=0, **changes)
    config.name, config.train.num_steps = "attacked", steps
    config.evals.every, config.checkpoint.every, config.runtime.chunk_steps = 60, 20, 10
    return config

def get_stages():
    encoder, reader = make(120, bank__name="glyphs", bank__image_size=12, model__encoder="mlp"), make(300)
    reader.bank.name, reader.bank.path = "features", "stage:encoders"
    return {{"encoders": Stage(encoder, ENCODERS), "grow": Stage(reader, grid.follow(ENCODERS))}}

def get_config():
    config = make(120)
    config.bank.name, config.bank.path, config.init_from.run = "features", "stage:encoders", "stage:grow"
    return config

def get_sweep():
    return grid.product(grid.follow(ENCODERS), grid.over("hypers.label_noise", (0, 0.5)))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("attacked")
    (path / "attacked.py").write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def undisturbed(place):
    process = start(place, "undisturbed")
    output = finish(process)
    assert process.returncode == 0, output
    assert "attacked/encoders: 2 populations done" in output and "attacked: 4 populations done, 0 failed" in output
    return results(place, "undisturbed")


def test_killed_in_and_between_stages(place, undisturbed):
    moments, kills = random.Random(1), 0
    while kills < KILLS:
        process = start(place, "killed")
        try:
            process.wait(moments.uniform(3.0, 12.0))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        finish(process)
        if process.returncode == 0:
            break
    assert kills >= 2, "it was done before it could be killed twice"
    assert finish(last := start(place, "killed")) and last.returncode == 0
    assert same_bits(results(place, "killed"), undisturbed)


def test_two_workers_share_the_stages(place, undisturbed):
    """Neither starts what another still trains the start of."""
    workers = [start(place, "shared") for _ in range(2)]
    outputs = [finish(worker) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert same_bits(results(place, "shared"), undisturbed)


def test_an_array_of_tasks_waits_for_the_stage_before(place, undisturbed):
    """A task whose share of a stage is done goes on to the next one, which waits for the other's."""
    tasks = [start(place, "array", f"--index={index}", "--count=2") for index in range(2)]
    outputs = [finish(task) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert same_bits(results(place, "array"), undisturbed)
