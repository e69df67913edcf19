"""What a run is: static specs, traced hypers, seeds.

A run is a pure function of (spec, hypers, seeds). Everything that decides an array's shape or which
code runs is in `RunSpec` (frozen, hashable). Every number that may differ between the members of one
compiled population is a hyper. Seeds are separate so that an experiment can vary one and hold the
others.

A field of a spec is an `Option`: it carries what it means and which values it takes, so that checks,
help and listings need no table of their own.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """What a field means and which values it takes.

    choices: all that are allowed (empty: any); least, most: the lowest and the highest; role: the field names a
    component of that role (see `icl_jax.registry`).
    """

    default: Any
    doc: str
    choices: tuple = ()
    least: float | None = None
    most: float | None = None
    role: str = ""


def option(default: Any, doc: str, **how: Any) -> Any:
    """Returns a dataclass field that carries its `Option`."""
    return field(default=default, metadata={"option": Option(default, doc, **how)})


def options_of(spec: type) -> dict[str, Option]:
    """Returns the options of a spec's class, by field."""
    return {f.name: f.metadata["option"] for f in dataclasses.fields(spec) if "option" in f.metadata}


@dataclass(frozen=True)
class BankSpec:
    """Which items exist.

    A *bank* holds `num_classes` classes x `num_exemplars` exemplars. With `augment` every base class
    gives 8 classes (flip left-right x rotation by 0/90/180/270 degrees), class = base * 8 + transform.
    """

    name: str = option("auto", "auto: omniglot if found, else glyphs", role="bank")
    image_size: int = option(28, "pixels a side (images); 105 is Omniglot's own size, others are area resampled")
    exemplars: str = option(
        "all",
        "single: the first drawing only; separated: each drawing its own class",
        choices=("all", "single", "separated"),
    )
    augment: bool = option(False, "8 x classes by flip and rotation, computed on the device")
    holdout_exemplars: int = option(0, "the last drawings of each class, kept for evaluation only", least=0)
    ink: float = option(1.0, "value of ink; 1: ink 1 on paper 0.  0: ink 0 on paper 1 (as in Chan et al. 2022)")
    num_classes: int = option(0, "glyphs, gaussian, symbols: how many classes (0: the bank's default)", least=0)
    num_exemplars: int = option(20, "glyphs: hands per class", least=1)
    dim: int = option(64, "gaussian: components of an item", least=1)
    seed: int = option(0, "glyphs, gaussian: which bank of its kind", least=0)
    path: str = option("", 'embeddings: .npy, .npz or .h5 file of (classes, exemplars, dim); features: "stage:NAME"')
    data_dir: str = option("", 'omniglot: TFDS directory or directory of the two zips ("": TFDS_DATA_DIR)')


@dataclass(frozen=True)
class TaskSpec:
    """How training sequences are built: `context_len` item-label pairs, then a query item.

    Positions in the class order: [0, num_rare) rare, [num_rare, num_rare + num_common) common (both
    are trained on), the last `num_holdout` of the bank are held out. num_rare is the hyper
    `num_classes` minus `num_common`.
    """

    kind: str = option(
        "bursty", "kind of training sequence", choices=("bursty", "fewshot", "mixed", "iid", "no_support")
    )
    context_len: int = option(8, "pairs before the query (Chan et al.'s seq_len - 1)", least=1, most=1 << 16)
    max_ways: int = option(2, "upper bound of the hyper `ways`", least=1)
    max_classes: int = option(
        0, "upper bound of the hyper `num_classes` (0: all classes that are not held out)", least=0
    )
    num_common: int = option(0, "common training classes, beside the rare ones", least=0)
    num_holdout: int = option(100, "classes that are never trained on", least=0)
    num_labels: int = option(
        0, "class labels in the vocabulary (0: as many as classes x max_multiplicity need)", least=0
    )
    max_multiplicity: int = option(1, "upper bound of the hyper `multiplicity`", least=1)
    multiplicity_by: str = option(
        "class",
        "one label drawn per class, or per slot (way or remainder item, as in the 2022 release)",
        choices=("class", "slot"),
    )
    num_symbols: int = option(0, "symbol labels in the vocabulary, beside the class labels", least=0)
    task_token: bool = option(False, "a token before the context says which label is asked: class or group")
    core_classes: str = option(
        "mixture",
        "classes of the core (kinds fewshot, bursty), or of all items (iid, no_support)",
        choices=("mixture", "zipfian", "rare", "common", "holdout", "fresh"),
    )
    non_bursty: str = option(
        "zipfian", "kind bursty: sequences without a core", choices=("zipfian", "common_uniform", "common_no_support")
    )
    core_labels: str = option(
        "fixed",
        "dynamic: 0..ways-1; symbols: redrawn per sequence from the pool",
        choices=("fixed", "dynamic", "symbols"),
    )
    grouped: bool = option(False, "every consecutive `ways` context items hold each way once")
    distinct_ways: bool = option(True, "False: ways drawn with replacement, as in the 2022 release")
    random_rare: bool = option(False, "rare classes shown as fresh random binary images, constant within a sequence")
    fresh: bool = option(False, "the program can draw sequences of fresh classes (gaussian bank; hyper p_fresh)")
    pixel_noise: bool = option(False, "the program adds noise (hyper noise_scale) to images")
    loss: str = option(
        "query",
        "scored: the query | all item positions | those whose class was shown before | both (hyper interim_weight)",
        choices=("query", "all", "repeats", "interim"),
    )


@dataclass(frozen=True)
class ModelSpec:
    """The network. Label tokens and item tokens are interleaved, or concatenated into one token."""

    core: str = option("transformer", "what reads the tokens", role="core")
    num_layers: int = option(2, "layers of the core", least=1, most=1024)
    width: int = option(64, "width of an item or label token", least=1, most=1 << 16)
    num_heads: int = option(8, "attention heads", least=1)
    mlp_ratio: int = option(4, "width of the MLPs, times that of the core; 0: attention only", least=0)
    norm: str = option("pre", "layer norms: before each part, and a final one", choices=("pre", "none"))
    positions: str = option(
        "sinusoidal",
        "positions of tokens; onehot: concatenated, with a random shift",
        choices=("sinusoidal", "learned", "rotary", "onehot", "none"),
    )
    position_scale: float = option(30.0, "longest wavelength base of sinusoidal positions")
    num_position_slots: int = option(0, "onehot: slots (0: number of tokens)", least=0)
    encoder: str = option(
        "mlp", "of items; embedding: of symbols. All but resnet read symbols, one-hot", role="encoder"
    )
    encoder_width: int = option(128, "mlp: hidden width", least=1)
    encoder_flatten: bool = option(False, "resnet: flatten instead of the mean over space")
    labels: str = option(
        "interleaved",
        "item and label tokens one after another, or in one token",
        choices=("interleaved", "concatenated"),
    )
    pair_order: str = option(
        "item_first",
        "interleaved: which of a pair comes first; label_first: only the query's label is predicted",
        choices=("item_first", "label_first"),
    )
    item_tokens: int = option(
        1, "interleaved: equal parts of an item along its first axis, each a token by the same encoder", least=1
    )
    separator: bool = option(
        False, "interleaved, item first: a learned token after each item; the query's, the last token, asks"
    )
    concat_mix: bool = option(
        True, "concatenated: a dense layer mixes (item, label) down to `width`; False: core is 2 x width"
    )
    readout: str = option("linear", "from the core to logits", role="head")
    readout_layers: int = option(3, "readout mlp: hidden layers", least=0)
    tied: bool = option(False, "output layer = label table")
    weights: str = option(
        "", "directory of an imported model, whose weights these are, frozen and shared by all members"
    )
    untrained: int = option(
        0, "n: the n-th set of weights drawn anew in the place of the imported ones, as a control", least=0
    )
    sync_batch_stats: bool = option(
        True, "moments over all devices of a member; False: per device, as in the 2022 release"
    )
    dtype: str = option("float32", "of the computation; parameters stay float32", choices=("float32", "bfloat16"))
    precision: str = option(
        "highest", "of matrix products; default reduces them on TPU and GPU", choices=("default", "high", "highest")
    )


@dataclass(frozen=True)
class TrainSpec:
    """Optimisation."""

    batch_size: int = option(32, "sequences per step of one member", least=1, most=1 << 20)
    num_steps: int = option(4000, "updates of each member")
    optimiser: str = option("adam", "by name from optax", role="optimiser")
    schedule: str = option("constant", "of the learning rate, after a linear warm-up", role="schedule")
    weight_decay: str = option(
        "decoupled", "l2: added to the gradient, before the optimiser", choices=("decoupled", "l2")
    )
    clip: bool = option(False, "clip by global norm at hyper clip_norm")


@dataclass(frozen=True)
class SuiteSpec:
    """One evaluation suite: a named kind of sequence and which answer counts.

    See icl_jax.evals.suites for the named suites and what each measures.
    """

    kind: str = option("fewshot", "kind of sequence", choices=("fewshot", "no_support", "broken", "iid", "bursty"))
    classes: str = option("holdout", "whose classes", choices=("holdout", "rare", "common", "zipfian", "fresh"))
    labels: str = option(
        "redrawn",
        "of the ways; redrawn: from trained labels; first: 0..ways-1",
        choices=("redrawn", "first", "fixed", "flipped", "shifted", "symbols"),
    )
    answers: str = option(
        "context",
        "over which labels the headline accuracy's argmax is taken; context: those shown there",
        choices=("context", "all"),
    )
    ways: int = option(2, "0: hyper `ways`", least=0)
    shots: int = option(0, "0: context_len // ways", least=0)
    exemplars: str = option(
        "all", "of the query; heldout: drawings kept for evaluation only", choices=("all", "train", "heldout")
    )
    exclude_label: bool = option(True, "no_support: the query's label is absent from the context too")
    unique: bool = option(False, "iid, no_support: the context's classes all differ")
    distinct_ways: bool = option(True, "False: ways drawn with replacement")
    task: str = option("class", "which label the task token asks for", choices=("class", "group"))


@dataclass(frozen=True)
class MoreEval:
    """An eval beside the suites. use: the component that builds it; every: steps between two (0: as the suites);
    options: (field, value) of those of its component that were set."""

    use: str
    every: int = 0
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class EvalSpec:
    """The suites that run, by name, and their size; more: evals beside them, by name."""

    suites: tuple[tuple[str, SuiteSpec], ...] = ()
    num_sequences: int = option(512, "per suite and member", least=1)
    batch_size: int = option(128, "sequences that a model is run over at once", least=1)
    more: tuple[tuple[str, MoreEval], ...] = ()


@dataclass(frozen=True)
class PartsSpec:
    """Which implementation of a seam runs, where no other section names it."""

    source: str = option("exemplars", "where sequences come from", role="source")
    frontend: str = option("pairs", "from the source's inputs to tokens", role="frontend")
    objective: str = option("labels", "what training minimises", role="objective")


@dataclass(frozen=True)
class PatchSpec:
    """What is static of an intervention: entries of a site are changed where tokens have a role."""

    site: str = option(
        "", "where; `icl_jax.models.build.Model.sites` lists them (pattern, z and resid_post are aliases)"
    )
    mode: str = option(
        "replace",
        "value takes the entries' place, is added, or multiplies them",
        choices=("replace", "add", "multiply"),
    )
    tokens: str = option(
        "",
        "a set of tokens, such as label; where the site is attention an edge: 'item -> label', what labels read of "
        "items ('earlier -> label': of all tokens before). Empty: all",
    )
    within: str = option(
        "any",
        "edges between tokens of any, of the same or of another demonstration",
        choices=("any", "same", "another"),
    )
    during: str = option("both", "when it acts", choices=("both", "training", "evals"))


@dataclass(frozen=True)
class PatchNumbers:
    """What is traced of an intervention, so that the members of one population may differ in it."""

    value: float = option(
        0.0, "what is put in, added or multiplied with; -inf at attn_scores closes an edge (leave each query one)"
    )
    layers: tuple[int, ...] = option((), "from 0; empty: all")
    heads: tuple[int, ...] = option((), "from 0; empty: all")
    start: int = option(0, "step (updates done) from which it acts", least=0)
    stop: int = option(0, "step before which it acts (0: to the end)", least=0)
    on: bool = option(True, "False: it does not act")


@dataclass(frozen=True)
class RunSpec:
    """Everything static. Equal specs share one compiled program.

    options: (role, ((field, value), ...)) of each role whose component has options of its own that were set.
    patches: interventions, by name; plugins: digests of the files that register components of one's own.
    """

    bank: BankSpec = field(default_factory=BankSpec)
    task: TaskSpec = field(default_factory=TaskSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    evals: EvalSpec = field(default_factory=EvalSpec)
    parts: PartsSpec = field(default_factory=PartsSpec)
    options: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    patches: tuple[tuple[str, PatchSpec], ...] = ()
    plugins: tuple[str, ...] = ()

    def options_of(self, role: str) -> dict[str, Any]:
        """Returns the options that were set of the component of a role."""
        return dict(dict(self.options).get(role, ()))


# The sections of a config that decide what a run is, in the order in which they are listed.
SECTIONS: Mapping[str, type] = {"bank": BankSpec, "task": TaskSpec, "model": ModelSpec, "train": TrainSpec}


@dataclass(frozen=True)
class Hyper:
    """A traced number: its default, its range and what it means."""

    default: float
    low: float
    high: float
    doc: str
    whole: bool = False  # a count: only whole numbers


INF = float("inf")
HYPERS: dict[str, Hyper] = {
    # distribution of the data
    "num_classes": Hyper(0, 0, INF, "active training classes, rare + common (0: task.max_classes)", whole=True),
    "ways": Hyper(2, 1, INF, "classes in a bursty or few-shot core", whole=True),
    "shots": Hyper(3, 1, INF, "support examples per class in a core", whole=True),
    "multiplicity": Hyper(1, 1, INF, "labels per rare class; one is drawn per class and sequence", whole=True),
    "p_bursty": Hyper(0.9, 0, 1, "share of bursty sequences"),
    "p_bursty_zipfian": Hyper(1, 0, 1, "share of bursty cores drawn from the Zipfian over all training classes"),
    "p_bursty_common": Hyper(0, 0, 1, "share of bursty cores of common classes; the rest are of rare ones"),
    "p_fewshot": Hyper(0.5, 0, 1, "kind 'mixed': share of few-shot sequences of rare classes"),
    "p_fresh": Hyper(0, 0, 1, "share of sequences whose classes and labels are fresh (p_C of Reddy 2023)"),
    "p_group_task": Hyper(0.5, 0, 1, "task_token: share of sequences that ask for the group's label"),
    "zipf_exponent": Hyper(0, 0, INF, "exponent of class frequencies; 0: uniform"),
    "label_noise": Hyper(0, 0, 1, "chance that a context label is replaced by a random label of its kind"),
    "p_copy": Hyper(0, 0, 1, "chance that the query repeats an exemplar shown in the context, if its class is there"),
    "noise_scale": Hyper(0, 0, INF, "within-class variation: sd of pixel noise, or eps of the gaussian bank"),
    "interim_weight": Hyper(0, 0, 1, "loss 'interim': weight spread over the context's items; the query has the rest"),
    # optimisation
    "learning_rate": Hyper(1e-3, 0, INF, "peak learning rate"),
    "warmup_steps": Hyper(0, 0, INF, "steps of linear warm-up"),
    "final_lr_fraction": Hyper(0, 0, 1, "cosine, linear: learning rate at the last step, as a share of the peak"),
    "b1": Hyper(0.9, 0, 0.99999, "first moment decay (momentum)"),
    "b2": Hyper(0.999, 0, 1, "second moment decay"),
    "eps": Hyper(1e-8, 0, INF, "epsilon of the Adam family"),
    "decay_attention": Hyper(0, 0, INF, "weight decay of the core's attention (recurrent cores: all of the core)"),
    "decay_mlp": Hyper(0, 0, INF, "weight decay of the core's MLPs and the readout"),
    "decay_encoder": Hyper(0, 0, INF, "weight decay of the item encoder"),
    "decay_embeddings": Hyper(0, 0, INF, "weight decay of label table, its mixing layer and learned positions"),
    "clip_norm": Hyper(1, 0, INF, "clip: largest global norm of the gradient"),
}

SEEDS = ("init", "data", "split", "eval")


def hyper_defaults() -> dict[str, float]:
    """Default of every hyper, by name."""
    return {name: h.default for name, h in HYPERS.items()}
