"""What a run is: static specs, traced hypers, seeds.

A run is a pure function of (spec, hypers, seeds). Everything that decides an array's shape or which
code runs is in `RunSpec` (frozen, hashable). Every number that may differ between the members of one
compiled population is a hyper. Seeds are separate so that an experiment can vary one and hold the
others.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BankSpec:
    """Which items exist.

    A *bank* holds `num_classes` classes x `num_exemplars` exemplars. With `augment` every base class
    gives 8 classes (flip left-right x rotation by 0/90/180/270 degrees), class = base * 8 + transform.
    """

    name: str = "auto"  # auto (omniglot if found, else glyphs) | omniglot | glyphs | gaussian | symbols | embeddings
    image_size: int = 28  # pixels a side (images); 105 is Omniglot's own size, others are area resampled
    exemplars: str = "all"  # all | single (first drawing only) | separated (each drawing its own class)
    augment: bool = False  # 8 x classes by flip and rotation, computed on the device
    holdout_exemplars: int = 0  # the last drawings of each class, kept for evaluation only
    ink: float = 1.0  # value of ink; 1: ink 1 on paper 0.  0: ink 0 on paper 1 (as in Chan et al. 2022)
    num_classes: int = 0  # glyphs, gaussian, symbols: how many classes (0: the bank's default)
    num_exemplars: int = 20  # glyphs: hands per class
    dim: int = 64  # gaussian: components of an item
    seed: int = 0  # glyphs, gaussian: which bank of its kind
    path: str = ""  # embeddings: .npy, .npz or .h5 file of (classes, exemplars, dim)
    data_dir: str = ""  # omniglot: TFDS directory or directory of the two zips ("": TFDS_DATA_DIR)


@dataclass(frozen=True)
class TaskSpec:
    """How training sequences are built: `context_len` item-label pairs, then a query item.

    Positions in the class order: [0, num_rare) rare, [num_rare, num_rare + num_common) common (both
    are trained on), the last `num_holdout` of the bank are held out. num_rare is the hyper
    `num_classes` minus `num_common`.
    """

    kind: str = "bursty"  # bursty | fewshot | mixed | iid | no_support
    context_len: int = 8  # pairs before the query (Chan et al.'s seq_len - 1)
    max_ways: int = 2  # upper bound of the hyper `ways`
    max_classes: int = 0  # upper bound of the hyper `num_classes` (0: all classes that are not held out)
    num_common: int = 0
    num_holdout: int = 100
    num_labels: int = 0  # class labels in the vocabulary (0: as many as classes x max_multiplicity need)
    max_multiplicity: int = 1  # upper bound of the hyper `multiplicity`
    multiplicity_by: str = "class"  # one label drawn per: class | slot (way or remainder item, as in the 2022 release)
    num_symbols: int = 0  # symbol labels in the vocabulary, beside the class labels
    task_token: bool = False  # a token before the context says which label is asked: class or group
    core_classes: str = "mixture"  # classes of fewshot/iid/no_support kinds: zipfian | rare | common | holdout | fresh
    non_bursty: str = "zipfian"  # zipfian | common_uniform | common_no_support
    core_labels: str = "fixed"  # fixed | dynamic (0..ways-1) | symbols (redrawn per sequence from the pool)
    grouped: bool = False  # every consecutive `ways` context items hold each way once
    distinct_ways: bool = True  # False: ways drawn with replacement, as in the 2022 release
    random_rare: bool = False  # rare classes shown as fresh random binary images, constant within a sequence
    fresh: bool = False  # the program can draw sequences of fresh classes (gaussian bank; hyper p_fresh)
    pixel_noise: bool = False  # the program adds noise (hyper noise_scale) to images
    loss: str = (
        "query"  # query | all (all item positions) | repeats (class already shown) | interim (hyper interim_weight)
    )


@dataclass(frozen=True)
class ModelSpec:
    """The network. Label tokens and item tokens are interleaved, or concatenated into one token."""

    core: str = "transformer"  # transformer | lstm | gru | rnn
    num_layers: int = 2
    width: int = 64  # width of an item or label token
    num_heads: int = 8
    mlp_ratio: int = 4  # 0: attention only
    norm: str = "pre"  # pre | none
    positions: str = "sinusoidal"  # sinusoidal | learned | rotary | onehot (concatenated, random shift) | none
    position_scale: float = 30.0  # longest wavelength base of sinusoidal positions
    num_position_slots: int = 0  # onehot: slots (0: number of tokens)
    encoder: str = "mlp"  # resnet | mlp | linear | embedding (symbols) | identity; all but resnet read symbols, one-hot
    encoder_width: int = 128  # mlp: hidden width
    encoder_flatten: bool = False  # resnet: flatten instead of the mean over space
    labels: str = "interleaved"  # interleaved | concatenated
    concat_mix: bool = True  # concatenated: a dense layer mixes (item, label) down to `width`; False: core is 2 x width
    readout: str = "linear"  # linear | mlp
    readout_layers: int = 3  # readout mlp: hidden layers
    tied: bool = False  # output layer = label table
    sync_batch_stats: bool = True  # moments over all devices of a member; False: per device, as in the 2022 release
    dtype: str = "float32"  # compute: float32 | bfloat16 (parameters stay float32)
    precision: str = "highest"  # matmul precision: default | high | highest ("default" reduces products on TPU and GPU)


@dataclass(frozen=True)
class TrainSpec:
    """Optimisation."""

    batch_size: int = 32  # sequences per step of one member
    num_steps: int = 4000
    optimiser: str = "adam"  # adam | adamw | sgd | momentum | rmsprop | lion | adafactor: by name from optax
    schedule: str = "constant"  # constant | rsqrt | cosine | linear, each after a linear warm-up
    weight_decay: str = "decoupled"  # decoupled | l2 (added to the gradient, before the optimiser)
    clip: bool = False  # clip by global norm at hyper clip_norm


@dataclass(frozen=True)
class SuiteSpec:
    """One evaluation suite: a named kind of sequence and which answer counts.

    See icl_jax.evals.suites for the named suites and what each measures.
    """

    kind: str = "fewshot"  # fewshot | no_support | broken | iid | bursty
    classes: str = "holdout"  # holdout | rare | common | zipfian | fresh
    labels: str = "redrawn"  # redrawn (from trained labels) | first (0..ways-1) | fixed | flipped | shifted | symbols
    answers: str = "context"  # the headline accuracy's argmax: context (labels shown in the context) | all
    ways: int = 2  # 0: hyper `ways`
    shots: int = 0  # 0: context_len // ways
    exemplars: str = "all"  # all | train | heldout (drawings kept for evaluation only), of the query
    exclude_label: bool = True  # no_support: the query's label is absent from the context too
    unique: bool = False  # iid, no_support: the context's classes all differ
    distinct_ways: bool = True
    task: str = "class"  # task_token: class | group


@dataclass(frozen=True)
class EvalSpec:
    suites: tuple[tuple[str, SuiteSpec], ...] = ()
    num_sequences: int = 512  # per suite and member
    batch_size: int = 128


@dataclass(frozen=True)
class RunSpec:
    """Everything static. Equal specs share one compiled program."""

    bank: BankSpec = field(default_factory=BankSpec)
    task: TaskSpec = field(default_factory=TaskSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    evals: EvalSpec = field(default_factory=EvalSpec)


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
    "b1": Hyper(0.9, 0, 1, "first moment decay (momentum)"),
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
