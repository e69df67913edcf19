"""Laws of checkpoints: what is saved comes back, damage is found and named, killed saves cost nothing."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icl_jax.storage import checkpoint
from icl_jax.storage.checkpoint import CheckpointError, Checkpoints, DamagedCheckpoint, keep_policy
from icl_jax.storage.leaves import flatten, member_digests

MEMBERS = 3


def make_state(seed: int = 0) -> dict:
    """A state with every kind of leaf and container a trainer may hold."""
    draw = np.random.default_rng(seed)
    params = {
        "block": {0: {"w": draw.normal(size=(MEMBERS, 40, 50)).astype(np.float32)}},
        "list": [draw.normal(size=(MEMBERS, 2)), draw.integers(0, 2**62, (MEMBERS,))],
        "half": draw.normal(size=(MEMBERS, 4)).astype(jnp.bfloat16),
        "a/b.c": np.full((MEMBERS, 1), np.nan, np.float32),
        "empty": np.zeros((MEMBERS, 0, 7), np.float32),
    }
    flags = {"done": draw.random(MEMBERS) < 0.5, "step": np.arange(MEMBERS, dtype=np.uint32)}
    return {"params": params, "flags": flags}


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert isinstance(x, np.ndarray) and x.dtype == y.dtype and x.shape == y.shape
        assert x.tobytes() == y.tobytes()


def payload_files(directory: pathlib.Path, step: int) -> list[pathlib.Path]:
    """Files that hold the arrays, largest first."""
    files = [p for p in (directory / str(step)).rglob("*") if p.is_file() and "ocdbt.process" in str(p)]
    return sorted(files, key=lambda p: -p.stat().st_size)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with good checkpoints of steps 10 and 20."""
    directory = tmp_path_factory.mktemp("saved")
    with Checkpoints(directory) as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, make_state(step), meta={"step": step})
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    return pathlib.Path(shutil.copytree(saved, tmp_path / "copy"))


def test_what_is_saved_comes_back(saved):
    meta = {"spec": {"width": 64, "lr": 1e-3}, "none": None, "text": "ü"}
    directory = saved.parent / "round_trip"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(7, make_state(), meta=meta)
    step, state, meta_back = Checkpoints(directory).restore()
    assert (step, meta_back) == (7, meta)
    assert_same(state, make_state())


def test_restore_into_an_optax_state(tmp_path):
    params = {"w": np.ones((MEMBERS, 4, 5), np.float32)}
    optimiser = optax.chain(optax.clip(1.0), optax.adam(1e-3))
    state = jax.tree.map(np.asarray, {"params": params, "opt": jax.vmap(optimiser.init)(params)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, meta={})
        abstract = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, state))
        assert_same(checkpoints.restore(like=abstract)[1], state)
        nested = checkpoints.restore()[1]
    assert nested["opt"][1][0]["mu"]["w"].shape == (MEMBERS, 4, 5)


def test_leaves_that_do_not_fit_are_named(saved):
    checkpoints = Checkpoints(saved)
    like = make_state()
    like["params"]["block"][0]["w"] = np.zeros((MEMBERS, 40, 51), np.float32)
    like["params"]["new"] = like["params"].pop("half")
    with pytest.raises(CheckpointError) as error:
        checkpoints.restore(like=like)
    text = str(error.value)
    assert "params/block/0/w is float32[3, 40, 50] in the checkpoint, float32[3, 40, 51] was asked" in text
    assert "params/half is in the checkpoint only" in text
    assert "params/new is missing from the checkpoint" in text


def test_a_leaf_without_the_member_axis_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"leaf b has shape \(2,\)"):
        Checkpoints(tmp_path).save(0, {"a": np.zeros(3), "b": np.zeros(2)}, meta={})


def test_later_changes_of_the_arrays_are_not_saved(tmp_path):
    state = {"w": np.zeros((MEMBERS, 200, 1000))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, meta={})
        state["w"][:] = 1
        assert not checkpoints.restore()[1]["w"].any()


def test_keeps_the_last_and_the_policys(tmp_path):
    state = {"w": np.zeros((MEMBERS, 2))}
    with Checkpoints(tmp_path, keep_last=2, keep_steps=keep_policy(listed=[3], every=5)) as checkpoints:
        for step in range(1, 13):
            checkpoints.save(step, state, meta={})
        checkpoints.wait()
        assert checkpoints.steps() == [3, 5, 10, 11, 12]


def test_a_given_up_future_does_not_push_out_new_checkpoints(copy):
    state = make_state(1)
    with Checkpoints(copy, keep_last=1) as checkpoints:
        checkpoints.restore(step=10)
        checkpoints.save(12, state, meta={}, force=True)
        assert checkpoints.steps() == [12, 20]
        checkpoints.save(20, state, meta={"new": True}, force=True)
        assert checkpoints.steps() == [20] and checkpoints.restore()[2] == {"new": True}


def test_keep_policy_is_log_spaced():
    keep = keep_policy(log_spaced=2, interval=10)
    kept = [step for step in range(0, 1001, 10) if keep(step)]
    assert kept == [10, 40, 100, 320, 1000]  # 10, 31.6, 100, 316, 1000, rounded up to multiples of 10


def test_digests_tell_members_apart():
    leaves = flatten(make_state())
    before = member_digests(leaves)
    assert len(set(before)) == MEMBERS
    leaves["params/list/0"] = leaves["params/list/0"].copy()
    leaves["params/list/0"][1, 0] = np.nextafter(leaves["params/list/0"][1, 0], np.inf)
    after = member_digests(leaves)
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]


def flip_byte(path: pathlib.Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: pathlib.Path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip_byte, truncate, pathlib.Path.unlink])
def test_damaged_arrays_are_passed_over(copy, damage):
    damage(payload_files(copy, 20)[0])
    with pytest.warns(UserWarning, match=r"damaged checkpoint .*step 20: ") as warned:
        step, state, _ = Checkpoints(copy).restore()
    assert step == 10 and len(warned) == 1
    assert_same(state, make_state(10))
    with pytest.raises(DamagedCheckpoint, match="step 20"):
        Checkpoints(copy).restore(step=20)


def test_the_corrupt_member_is_named(tmp_path):
    """Arrays changed behind the digests' back: saved anew by Orbax under the old record."""
    import json

    from orbax.checkpoint import v1 as ocp

    state = {"w": np.zeros((5, 4)), "b": np.zeros((5, 2))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, meta={})
    seal = ocp.metadata(tmp_path / "1").custom_metadata
    assert len(json.loads(seal["icl_jax"])["digests"]) == 5
    state["w"][3, 2] = 1e-300
    ocp.save(tmp_path / "1", state, overwrite=True, custom_metadata=seal)
    with pytest.raises(DamagedCheckpoint, match="digest differs for member 3 of 5"):
        Checkpoints(tmp_path).restore(step=1)


@pytest.mark.parametrize(
    "damage", [flip_byte, truncate, pathlib.Path.unlink, lambda p: shutil.rmtree(p.parent / "state")]
)
def test_damaged_metadata_is_passed_over(copy, damage):
    damage(copy / "20" / "_CHECKPOINT_METADATA")
    with pytest.warns(UserWarning, match="step 20"):
        assert Checkpoints(copy).restore()[0] == 10


def test_training_goes_on_over_a_damaged_checkpoint(copy):
    (copy / "20" / "_CHECKPOINT_METADATA").unlink()
    with Checkpoints(copy) as checkpoints, pytest.warns(UserWarning):
        assert checkpoints.restore()[0] == 10
        checkpoints.save(20, make_state(20), meta={})
    assert Checkpoints(copy).restore()[0] == 20


def test_a_checkpoint_that_is_removed_while_it_is_read_is_not_called_damaged(copy, monkeypatch):
    """As when a run that is trained makes room for a newer one."""
    real = checkpoint._read

    def read(path, step):
        if step == 20:
            shutil.rmtree(path)
        return real(path, step)

    monkeypatch.setattr(checkpoint, "_read", read)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(copy).restore()[0] == 10


def test_nothing_good_says_everything_that_is_wrong(copy, tmp_path):
    for step in (10, 20):
        truncate(payload_files(copy, step)[0])
    with pytest.warns(UserWarning), pytest.raises(DamagedCheckpoint, match=r"step 20: .*step 10: "):
        Checkpoints(copy).restore()
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        Checkpoints(tmp_path / "nowhere").restore()
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 11 .*\[10, 20\]"):
        Checkpoints(copy).restore(step=11)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint of step 5 in .*file.*choose another"):
        Checkpoints(tmp_path / "file").save(5, make_state(), meta={}, force=True)


def test_reading_leaves_a_running_save_alone(copy):
    unfinished = copy / "30.orbax-checkpoint-tmp"
    unfinished.mkdir()
    checkpoints = Checkpoints(copy)
    assert checkpoints.steps() == [10, 20] and checkpoints.restore()[0] == 20
    checkpoints.close()
    assert unfinished.exists()


SAVER = """
import sys, numpy as np
from icl_jax.storage.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep_last=1)
first = checkpoints.restore()[0] + 1 if checkpoints.steps() else 0
for step in range(first, 10**6):
    checkpoints.save(step, {"w": np.full((4, 300_000), step)}, meta={"step": step})
    print(step, flush=True)
"""


@pytest.mark.slow
def test_kill_in_the_middle_of_a_save_leaves_a_good_checkpoint(tmp_path):
    """After each kill -9 the newest good checkpoint is consistent and at most two saves behind."""
    delays = np.random.default_rng(0).uniform(0.3, 1.0, 6)
    for delay in delays:
        with subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
        ) as saver:
            started = int(saver.stdout.readline())
            time.sleep(delay)
            saver.send_signal(signal.SIGKILL)
            begun = max([started, *map(int, saver.stdout.read().split())])
        if not Checkpoints(tmp_path).steps():
            assert started == 0
            continue
        step, state, meta = Checkpoints(tmp_path).restore()
        assert step >= begun - 1 and meta == {"step": step} and (state["w"] == step).all()


def test_a_save_leaves_no_thread_and_no_open_file_behind(tmp_path):
    """A long run saves thousands of times; Orbax's handle of a save that nobody asks for its result keeps both."""
    before = threading.active_count()
    with Checkpoints(tmp_path, keep_last=1) as checkpoints:
        for step in range(12):
            checkpoints.save(step, {"a": np.zeros((2, 3))}, meta={})
        checkpoints.wait()
        during = threading.active_count()
        for step in range(12, 24):
            checkpoints.save(step, {"a": np.zeros((2, 3))}, meta={})
        checkpoints.wait()
        assert threading.active_count() <= during + 2
    assert threading.active_count() <= before + 2


def test_reading_a_checkpoint_takes_pythons_own_event_loops(tmp_path, monkeypatch):
    """A loop of uvloop's that TensorStore calls once it has ended crashes the process, now and then."""
    uvloop = pytest.importorskip("uvloop")
    monkeypatch.setattr(uvloop, "new_event_loop", lambda: pytest.fail("a loop of uvloop's"))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": np.arange(6.0).reshape(2, 3)}, meta={})
    _, state, _ = Checkpoints(tmp_path).restore()
    np.testing.assert_array_equal(state["a"], np.arange(6.0).reshape(2, 3))
