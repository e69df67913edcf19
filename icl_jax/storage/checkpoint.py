"""Checkpoints of a population: written by Orbax, checked member by member when read.

A state is a tree of host arrays whose leading axis is the member, flat and without padding, whatever
the devices. Orbax makes a save atomic and asynchronous, but loads a file with a flipped byte without
a word; so each checkpoint carries a digest per member, and a restore that meets a damaged checkpoint
says what is wrong and falls back to the one before.

In a bucket nothing can be renamed: Orbax marks a checkpoint as finished by a file written last. And no lock
keeps a second worker away from the same population there, so that a save leaves what is there alone and counts
as done when the other's checkpoint of the same step, which is the same state, is there.
"""

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import math
import pathlib
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

import absl.logging
import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src import asyncio_utils

from icl_jax.storage.files import remove_tree
from icl_jax.storage.leaves import (
    CheckpointError,
    Leaves,
    PyTree,
    few,
    fit,
    flatten,
    member_digests,
    nest,
    structure,
)
from icl_jax.storage.paths import absolute, as_path, children, in_bucket

_FORMAT = 1
_FINISHED = "commit_success.txt"  # Orbax's mark of a finished checkpoint in a bucket


def _said_once(record: logging.LogRecord) -> bool:
    """Keeps Orbax from logging, with pages of traceback, what it also raises."""
    return not (record.exc_info and "orbax" in record.pathname)


absl.logging.get_absl_logger().addFilter(_said_once)

# Reading takes four event loops a checkpoint, each ended while TensorStore's threads may still call into it. Python's
# own answers such a call with an exception; uvloop's is freed memory by then, and crashed a process now and then.
if getattr(asyncio_utils, "uvloop", None) is not None:
    asyncio_utils.uvloop = asyncio


class DamagedCheckpoint(CheckpointError):
    """A checkpoint exists, but its content is not what was saved."""


def keep_policy(
    listed: Collection[int] = (), every: int = 0, log_spaced: int = 0, interval: int = 1
) -> Callable[[int], bool]:
    """Returns which steps' checkpoints are kept for good, as a pure function of the step.

    listed:     these steps.
    every:      multiples of this number of steps (0: none).
    log_spaced: this many points per decade of steps (0: none), each moved up to the next checkpoint.
    interval:   steps from one checkpoint to the next; only `log_spaced` needs it.
    """
    listed = frozenset(int(step) for step in listed)

    def points_passed(step: int) -> int:  # 1e-9: log10(1000) must count as having reached 3
        return math.floor(log_spaced * math.log10(step) + 1e-9) if step > 0 else -1

    def keep(step: int) -> bool:
        if step in listed or (every and step % every == 0):
            return True
        return bool(log_spaced) and points_passed(step) > points_passed(step - interval)

    return keep


class Checkpoints:
    """The checkpoints of one population in one directory (shared by all processes of a run).

    Keeps the last `keep_last` and those that `keep_steps` (a predicate or a collection of steps) keeps.
    With several processes each calls every method at the same point with the same arrays, and process
    0 writes. Opening a directory and reading from it never change it.
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        *,
        keep_last: int = 2,
        keep_steps: Callable[[int], bool] | Collection[int] = (),
    ):
        if keep_last < 1:
            raise ValueError(f"keep_last {keep_last} < 1: the newest checkpoint must be kept; use 1 or more")
        self.directory = absolute(as_path(directory))
        self._keep_last = keep_last
        self._keep = keep_steps if callable(keep_steps) else keep_policy(listed=keep_steps)
        self._trusted: set[int] = set()  # steps this object wrote, or read and found good
        self._damaged: set[int] = set()  # steps this object could not read
        self._newest = -1  # last step written
        self._saving: ocp.AsyncResponse[bool] | None = None  # the last save, until it was waited for

    def save(self, step: int, state: PyTree, *, meta: dict, force: bool = False) -> None:
        """Starts to write a checkpoint and returns when the state has been copied.

        A save that is still running is waited for first, so none is skipped; with `force` the call
        returns only when this one is on disk. A step that this object has already written or found
        good is left as it is. Raises CheckpointError, also for an earlier save that failed meanwhile.

        state: tree of numpy arrays, each (members, ...).  meta: any JSON values, given back by restore.
        """
        leaves = flatten(state)
        self.wait()  # a failure of the save before must not be taken for one of this
        if step not in self._trusted and not self._has_another(step):
            seal = _seal(step, leaves, structure(state), meta)
            present = {path: leaf for path, leaf in leaves.items() if leaf.size}  # Orbax refuses empty arrays
            self._newest = step
            with self._writing(f"write the checkpoint of step {step}"):
                self._saving = self._writer.save_async(step, present, force=True, overwrite=True, custom_metadata=seal)
            self._trusted.add(step)
        if force:
            self.wait()

    def wait(self) -> None:
        """Returns when everything saved so far is on disk. Raises CheckpointError if it could not be."""
        saving, self._saving = self._saving, None
        if saving is not None:
            with self._writing("write the last checkpoint"):
                saving.result()  # ends its thread too, which Orbax's own wait leaves with three open files

    def close(self) -> None:
        """Waits, and lets go of the directory."""
        try:
            self.wait()
        finally:
            if "_writer" in self.__dict__:
                with self._writing("write the last checkpoint"):
                    self.__dict__.pop("_writer").close()

    def steps(self) -> list[int]:
        """Returns the steps that have a finished checkpoint, good or damaged, in ascending order."""
        finished = (lambda path: (path / _FINISHED).exists()) if in_bucket(self.directory) else pathlib.Path.is_dir
        return sorted(int(p.name) for p in children(self.directory) if p.name.isdigit() and finished(p))

    def set_aside_damaged(self) -> None:
        """Moves the checkpoints that could not be read to checkpoints.damaged, so that nobody takes their steps for
        reached. In a bucket they stay until the run has come there."""
        if in_bucket(self.directory) or jax.process_index() != 0:
            return
        for step in sorted(self._damaged & set(self.steps())):
            aside = self.directory.with_name(f"{self.directory.name}.damaged") / str(step)
            remove_tree(aside)
            aside.parent.mkdir(exist_ok=True)
            (self.directory / str(step)).rename(aside)

    def _has_another(self, step: int) -> bool:
        """Whether there is, in a bucket, a finished checkpoint that another worker has written."""
        return in_bucket(self.directory) and step not in self._damaged and step in self.steps()

    def restore(self, like: PyTree | None = None, step: int | None = None) -> tuple[int, PyTree, dict]:
        """Returns (step, state, meta) of the newest good checkpoint, or of the step asked for.

        Damaged ones are passed over with a warning that names the fault; a damaged one that was asked
        for raises DamagedCheckpoint. Without `like` the state comes back as nested dicts and lists
        (named tuples as dicts, empty containers left out). With `like`, a tree of anything with shape
        and dtype, it has that tree's structure, leaves are matched by path, and CheckpointError names
        those that are missing, superfluous or of another shape or dtype.
        """
        self.wait()
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            asked = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise CheckpointError(f"{asked} in {self.directory}; steps there: {steps or 'none'}")
        faults = []
        for candidate in self._newest_first() if step is None else [step]:
            try:
                leaves, record = _read(self.directory / str(candidate), candidate)
            except DamagedCheckpoint as fault:
                if step is None and self._was_removed(candidate):
                    continue
                faults.append(f"step {candidate}: {fault}")
                self._damaged.add(candidate)
                if step is None:
                    warnings.warn(f"passing over a damaged checkpoint in {self.directory}, {faults[-1]}", stacklevel=2)
                continue
            self._trusted = {good for good in self._trusted if good < candidate} | {candidate}
            keys_of = {path: keys for path, (_, _, keys) in record["leaves"].items()}
            tree = nest(leaves, keys_of) if like is None else fit(leaves, like)
            return candidate, tree, record["meta"]
        reasons = "; ".join(faults) or "they were removed while they were read; try again"
        raise DamagedCheckpoint(
            f"no good checkpoint left in {self.directory}: {reasons}; bring one back, or move that directory away and "
            "train again: the run begins anew, to the same results"
        )

    def _was_removed(self, step: int) -> bool:
        """Whether a checkpoint that could not be read makes room for a newer one that its run has saved meanwhile."""
        steps = self.steps()
        return step not in steps or any(newer > step and newer not in self._damaged for newer in steps)

    def _newest_first(self) -> Iterator[int]:
        """The steps there, looked for each time: another worker may add and remove some meanwhile."""
        tried: set[int] = set()
        while left := [step for step in self.steps() if step not in tried]:
            tried.add(left[-1])
            yield left[-1]

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @functools.cached_property
    def _writer(self) -> ocp.training.Checkpointer:
        """Orbax's writer, opened by the first save. Opening clears what killed saves left behind; in a bucket
        that may be a save of another worker's in progress, and each step clears its own."""
        return ocp.training.Checkpointer(
            cast(Any, self.directory),  # Orbax takes pathlib's paths too
            preservation_policy=_Preserve(self._keep_last, self._keep, lambda: self._newest),
            cleanup_tmp_directories=not in_bucket(self.directory),
        )

    @contextlib.contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        """Turns what a part of a save raises into a CheckpointError that says what failed, why, and the way out;
        no error where the checkpoint is there all the same, as another worker wrote it meanwhile."""
        try:
            yield
        except Exception as error:
            if not self._has_another(self._newest):
                why = f"{_first_line(error)}; free some space or choose another directory"
                raise CheckpointError(f"cannot {action} in {self.directory}: {why}") from error
            self.__dict__.pop("_writer", None)  # Orbax's does not get over an error


@dataclasses.dataclass
class _Preserve:
    """Orbax's form of the keep policy.

    Steps after the newest one written are of a future that was given up (damaged, or the run was
    restarted from an earlier step). They do not count, and stay until the run reaches them.
    """

    keep_last: int
    keep: Callable[[int], bool]
    newest: Callable[[], int]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        last = sorted(step for step in steps if step <= self.newest())[-self.keep_last :]
        return [step in last or step > self.newest() or self.keep(step) for step in steps]


def _seal(step: int, leaves: Leaves, keys: dict[str, list], meta: dict) -> dict:
    """What is stored beside the arrays: one JSON text and its own digest."""
    record = {
        "format": _FORMAT,
        "step": step,
        "leaves": {path: [leaf.dtype.name, list(leaf.shape), keys[path]] for path, leaf in leaves.items()},
        "digests": member_digests(leaves),
        "meta": meta,
    }
    text = json.dumps(record)
    return {"icl_jax": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _read(path: pathlib.Path, step: int) -> tuple[Leaves, dict]:
    """Returns (leaves, record) of one checkpoint. Raises DamagedCheckpoint."""
    with _single_process():
        try:
            record = _unseal(ocp.metadata(cast(Any, path)).custom_metadata, step)
            stored = ocp.load(cast(Any, path))
        except CheckpointError:
            raise
        except Exception as error:  # Orbax and its storage raise many kinds for files that are gone or cut
            raise DamagedCheckpoint(f"it cannot be read ({_first_line(error)})") from error
    leaves = {name: _leaf(stored, name, dtype, shape) for name, (dtype, shape, _) in record["leaves"].items()}
    found = member_digests(leaves)
    wrong = [str(i) for i, pair in enumerate(zip(found, record["digests"], strict=True)) if pair[0] != pair[1]]
    if wrong:
        raise DamagedCheckpoint(f"the digest differs for member {few(wrong)} of {len(found)}")
    return leaves, record


def _leaf(stored: Leaves, name: str, dtype: str, shape: list[int]) -> np.ndarray:
    if 0 in shape:
        return np.empty(shape, jax.numpy.dtype(dtype))
    if name not in stored or list(stored[name].shape) != shape:
        raise DamagedCheckpoint(f"leaf {name} of shape {tuple(shape)} is missing or has another shape")
    return np.asarray(stored[name])


def _unseal(seal: Any, step: int) -> dict:
    if not seal or "icl_jax" not in seal:
        raise DamagedCheckpoint("its metadata file is missing or empty")
    if hashlib.sha256(seal["icl_jax"].encode()).hexdigest() != seal.get("sha256"):
        raise DamagedCheckpoint("the digest of its metadata differs")
    record = json.loads(seal["icl_jax"])
    if record["format"] != _FORMAT:
        raise CheckpointError(f"checkpoint format {record['format']}; this version reads {_FORMAT}: use the writer's")
    if record["step"] != step:
        raise DamagedCheckpoint(f"it lies under step {step} but was saved at step {record['step']}")
    return record


def _single_process() -> ocp.Context:
    """Orbax's setting in which this process reads by itself, without waiting for the others."""
    context, process = ocp.Context(), jax.process_index()
    context.multiprocessing.primary_host = process
    context.multiprocessing.active_processes = {process}
    context.multiprocessing.barrier_sync_key_prefix = f"icl_jax_{process}"
    return context


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
