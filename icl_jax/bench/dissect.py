"""What analyses of a language model cost: against reading the prompts, and against torch on the same weights.

What is compared takes turns in one process, which on CPU has one device with all threads, as torch has: this package's
own setting, one device per core with one thread each, is for several members.
"""

import dataclasses
import functools
import importlib
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icl_jax.bench.measure import Row, seconds
from icl_jax.bench.subject import TASK, Subject, context_of, new_subject, texts_in
from icl_jax.bench.torch_side import INSTALL, TorchSide, is_installed
from icl_jax.devices import cpu_cores, enable_compilation_cache
from icl_jax.dissect.edges import Edges, windows_of
from icl_jax.dissect.flow import Flow, mean_over
from icl_jax.dissect.reading import read, read_before
from icl_jax.dissect.roles import edges_of, marked
from icl_jax.models.cache import Cache
from icl_jax.models.taps import Patch
from icl_jax.registry import find

PROMPTS = 8
REPEATS = 3
FIGURE_PROMPTS, FIGURE_SECONDS = 100, 300
MOST_FORWARDS = 4  # of saliency
TO_LABEL, TO_QUERY = "earlier -> label", "label -> query"
LOGITS_APART, FLOWS_APART = 1e-3, 0.03  # torch's from ours: in logits; relative
ONE_DEVICE = " --xla_force_host_platform_device_count=1 --xla_cpu_multi_thread_eigen=true"  # XLA heeds the last flags
NO_PARAMS = {"params": {}, "stats": {}}


class LabelCuts(Edges):
    """The cuts of edges by labels alone, without their controls."""

    @property
    def cuts(self) -> list[tuple[int, int, int]]:
        """Those of `Edges` whose place along "cut" is that of labels."""
        return [cut for cut in super().cuts if cut[1] == 0]


class OurSide:
    """The analyses of a subject, compiled; each is a function without arguments but `isolated` and `after`. traces:
    how many programs each has become."""

    def __init__(self, subject: Subject):
        self.subject, self.traces = subject, Counter()
        self.whole, self.asked = subject.cases(whole=True), subject.cases(whole=False)
        self.each, shared = subject.prepared(whole=True), subject.prepared(whole=False)
        self.shared = shared
        self.before: Any = shared.before
        self.gates = windows_of(("each",), subject.sizes[0])
        model = subject.run.model
        flows, at_once = (TO_LABEL, TO_QUERY), find("eval", "flow").options["at_once"].default
        flow = Flow("bench", subject.questions(whole=True), flows, "loss", subject.sizes, at_once)
        gates = tuple((name, tuple(map(bool, gate))) for name, gate in self.gates.items())
        cuts = LabelCuts("bench", subject.questions(whole=False), (TO_LABEL,), gates, (), PROMPTS)
        of_eval = lambda eval_: lambda weights, given: eval_.run(model, NO_PARAMS, given, context_of(weights))
        self._forward = self._compiled("forward", lambda w, cases: read(model, NO_PARAMS, cases, context_of(w))[0])
        self._saliency = self._compiled("saliency", of_eval(flow))
        self._all_isolated = self._compiled("all_isolated", of_eval(cuts))
        self._isolated = self._compiled("isolated", self._cut)
        self._after = self._compiled(
            "after", lambda w, cases, cache: read(model, NO_PARAMS, cases, context_of(w), cache=cache)[0]
        )

    def forward(self) -> jax.Array:
        """Returns the logits (B, vocab) at the token that asks, every prompt read whole."""
        return self._forward(self.subject.weights, self.whole)

    def saliency(self) -> dict[str, jax.Array]:
        """Returns what the eval `flow` does, see `Flow.run`."""
        return self._saliency(self.subject.weights, self.each)

    def all_isolated(self) -> dict[str, jax.Array]:
        """Returns what the eval `edges` does of every single layer and of none, see `Edges.run`."""
        return self._all_isolated(self.subject.weights, self.shared)

    def isolated(self, gate: np.ndarray) -> jax.Array:
        """Returns the logits (B, vocab) of one cut, in the layers of a gate (L,)."""
        return self._isolated(self.subject.weights, self.before, self.asked, gate)

    def after(self, cache: Cache) -> jax.Array:
        """Returns the logits (B, vocab) of the questions alone, after what is kept of the demonstrations."""
        return self._after(self.subject.weights, self.asked, cache)

    @functools.cached_property
    def caches(self) -> tuple[Cache, Cache]:
        """The cache of the demonstrations and that of their anchors: label and format tokens."""
        model = self.subject.run.model
        reading = jax.jit(lambda w, before: read_before(model, NO_PARAMS, before, context_of(w))[0])
        whole = reading(self.subject.weights, self.before)
        tokens = marked(model, self.before)
        kept = np.flatnonzero(tokens.queries("label")[0] | tokens.queries("format")[0])
        anchors = Cache(whole.keys[:, :, kept], whole.values[:, :, kept], whole.valid[:, kept], whole.first)
        return dataclasses.replace(whole, roles=None), anchors

    def _cut(self, weights: Any, before: Any, asked: Any, gate: Any) -> jax.Array:
        model, context = self.subject.run.model, context_of(weights)
        mask = edges_of(TO_LABEL, marked(model, before))[:, None]
        patch = Patch("attn_scores", "replace", value=-jnp.inf, mask=mask, layers=gate)
        cache, _ = read_before(model, NO_PARAMS, before, context, patches=(patch,))
        return read(model, NO_PARAMS, asked, context, cache=cache)[0]

    def _compiled(self, name: str, fn: Callable) -> Callable:
        def counted(*args):
            self.traces[name] += 1
            return fn(*args)

        return jax.jit(counted)


def check_same(ours: OurSide, theirs: TorchSide) -> None:
    """Raises RuntimeError where torch computes something else: times of different things say nothing."""
    whole, anchors = ours.caches
    layer = ours.subject.sizes[0] // 2
    gate = list(ours.gates.values())[layer]
    pairs = {
        "logits": (ours.forward(), theirs.forward()),
        "logits of an isolated layer": (ours.isolated(gate), theirs.isolated(layer)),
        "logits after the demonstrations": (ours.after(whole), theirs.after(as_torch(whole))),
        "logits after anchors": (ours.after(anchors), theirs.after(as_torch(anchors))),
    }
    for what, (own, other) in pairs.items():
        apart = np.abs(np.asarray(own) - other.numpy()).max()
        if not apart <= LOGITS_APART:
            raise RuntimeError(f"{what} of torch are {apart:.2g} from ours, more than {LOGITS_APART}")
    tokens = marked(ours.subject.run.model, ours.whole)
    flows = ours.saliency()["flow"][:, 0]  # (B, flows, L), by labels
    saliency = jnp.asarray(theirs.saliency().numpy())
    for i, edge in enumerate((TO_LABEL, TO_QUERY)):
        own, other = np.asarray(flows[:, i].T), np.asarray(mean_over(edges_of(edge, tokens), saliency))
        apart = np.abs(own - other).max() / np.abs(own).max()
        if not apart <= FLOWS_APART:
            raise RuntimeError(f"the flow {edge!r} of torch is {apart:.2%} from ours, more than {FLOWS_APART:.0%}")


def as_torch(cache: Cache) -> list[tuple[Any, Any]]:
    """Returns keys and values of each layer, as `TorchSide.after` has them."""
    torch = importlib.import_module("torch")
    tensors = (torch.from_numpy(np.array(x.swapaxes(2, 3))) for x in (cache.keys, cache.values))
    return list(zip(*tensors, strict=True))


def rows(ours: OurSide, theirs: TorchSide | None, repeats: int = REPEATS) -> Iterator[Row]:
    """Yields the figures of all analyses. theirs: of the same subject, None where torch is not measured."""
    if theirs is not None:
        check_same(ours, theirs)
    yield from _reading(ours, theirs, repeats)
    yield from _isolation(ours, theirs, 1)  # each is many calls already
    yield from _compression(ours, theirs, repeats)


def _reading(ours: OurSide, theirs: TorchSide | None, repeats: int) -> Iterator[Row]:
    runs = [ours.forward, ours.saliency, *([theirs.forward, theirs.saliency] if theirs else [])]
    forward, saliency, *others = seconds(runs, repeats)
    count, tokens = ours.subject.prompts.ids.shape
    yield Row("forward pass", 1e3 * forward, "ms", f"{count} prompts of up to {tokens} tokens")
    yield Row("saliency", 1e3 * saliency, "ms", f"{saliency / forward:.1f} forward passes; at most {MOST_FORWARDS}")
    if others:
        yield _of_torch("forward pass", others[0], forward)
        note = f"{others[1] / others[0]:.1f} of its forward passes"
        yield _of_torch("saliency", others[1], saliency, note)


def _isolation(ours: OurSide, theirs: TorchSide | None, repeats: int) -> Iterator[Row]:
    apart = lambda: [ours.isolated(gate) for gate in ours.gates.values()]
    layers = len(ours.gates)
    of_torch = [lambda: [theirs.isolated(layer) for layer in range(layers)]] if theirs else []
    at_once, one_by_one, *others = seconds([ours.all_isolated, apart, *of_torch], repeats)
    at_once *= layers / (layers + 1)  # the eval reads the prompts uncut as well
    note = f"{one_by_one / at_once:.2f} x as fast as a call per layer; programs: {ours.traces['all_isolated']}"
    yield Row(f"each of {layers} layers isolated", 1e3 * at_once, "ms", note)
    if others:
        yield _of_torch(f"each of {layers} layers isolated", others[0], at_once)


def _compression(ours: OurSide, theirs: TorchSide | None, repeats: int) -> Iterator[Row]:
    caches, count = ours.caches, len(ours.subject.prompts)
    runs = [ours.forward, *(functools.partial(ours.after, cache) for cache in caches)]
    if theirs:
        kept = [as_torch(cache) for cache in caches]
        runs += [theirs.forward, *(functools.partial(theirs.after, own) for own in kept)]
    times = seconds(runs, repeats)
    anew, whole, anchors = times[:3]
    tokens = [cache.keys.shape[2] for cache in caches]
    sizes = [(cache.keys.nbytes + cache.values.nbytes) / 2**10 for cache in caches]
    note = f"{anew / anchors:.1f} x as fast as the whole prompt anew, {whole / anchors:.2f} x as after the whole cache"
    yield Row("a question after anchors", 1e3 * anchors / count, "ms", note)
    yield Row("a question after the whole cache", 1e3 * whole / count, "ms")
    yield Row("a question, its prompt read anew", 1e3 * anew / count, "ms")
    yield Row("cache of anchors", sizes[1], "KiB", f"{tokens[1]} tokens; {tokens[0]} in all: {sizes[0]:,.0f} KiB")
    names = ("a question, its prompt read anew", "a question after the whole cache", "a question after anchors")
    for name, own, other in zip(names, times[:3], times[3:], strict=False):
        yield _of_torch(name, other / count, own / count)


def _of_torch(name: str, theirs: float, ours: float, note: str = "") -> Row:
    said = f"ours is {theirs / ours:.2f} x as fast"
    return Row(f"{name}: torch", 1e3 * theirs, "ms", f"{said}; {note}" if note else said)


def _first_figure(directory: pathlib.Path) -> Row:
    """From the command to the page of all analyses, with an empty compilation cache."""
    flags = [f"--task={TASK}", f"--data={texts_in(directory)}", f"--prompts={FIGURE_PROMPTS}", "--seeds=0"]
    usual = os.environ.get("XLA_FLAGS", "").removesuffix(ONE_DEVICE)
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(directory / "compiled"), "XLA_FLAGS": usual}
    start = time.perf_counter()
    _checked([sys.executable, "-m", "icl_jax", "dissect", str(directory / "run"), *flags], environment)
    took = time.perf_counter() - start
    name = f"icl dissect, {FIGURE_PROMPTS} prompts, to its page"
    return Row(name, took, "s", f"at most {FIGURE_SECONDS}; one seed, nothing compiled before")


def _checked(command: Sequence[str], environment: dict[str, str]) -> None:
    out = subprocess.run(command, env=environment, capture_output=True, text=True)
    if out.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed:\n{out.stderr[-2000:]}")


def measure() -> Iterator[Row]:
    """Yields all figures: those of `rows`, and on CPU how long `icl dissect` takes, in a process of its own."""
    enable_compilation_cache()
    on_cpu = jax.default_backend() == "cpu"
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        subject = new_subject(directory, PROMPTS)
        layers, _ = subject.sizes
        size = sum(leaf.size for leaf in jax.tree.leaves(subject.weights)) / 1e6
        yield Row("parameters", size, "million", f"{layers} layers of width {subject.run.config.model.width}, float32")
        if not (on_cpu and is_installed()):
            why = f"not installed: {INSTALL}" if on_cpu else "compared on CPU only"
            yield Row("torch and transformers", math.nan, "", why)
        theirs = TorchSide(subject, cpu_cores()) if on_cpu and is_installed() else None
        yield from rows(OurSide(subject), theirs)
        if on_cpu:  # an accelerator is this process's alone
            yield _first_figure(directory)


def print_figures() -> None:
    """Prints each figure as a line of JSON."""
    for row in measure():
        print(json.dumps(dataclasses.asdict(row)), flush=True)


def bench() -> Iterator[Row]:
    """Yields the figures as they come."""
    if jax.default_backend() != "cpu":
        yield from measure()
        return
    environment = os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + ONE_DEVICE}
    command = [sys.executable, "-c", "from icl_jax.bench.dissect import print_figures; print_figures()"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            yield Row(**json.loads(line))
    if process.returncode:
        raise RuntimeError("bench dissect failed; what it says stands above")
