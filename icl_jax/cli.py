"""`icl ...`: thin commands over the Python interface.

icl train --config FILE [--config.FIELD=VALUE ...]     train or resume a population
icl eval RUN [--suites=NAME,...] [--step=N]            score a checkpoint on named suites and other evals
icl data show --config FILE                            picture of sequences, and their statistics
icl data banks                                         which banks are available
icl data prepare omniglot --data_dir=DIR               make the TFDS form of a bank
icl data embed RUN [--to=FILE]                         a run's encoder applied to its bank
icl sweep plan CONFIG...                               what a sweep would run, and its cost; writes nothing
icl sweep run CONFIG...                                run a sweep, or go on with it (CONFIG: FILE or FILE:SCALE)
icl sweep status CONFIG...                             how far it is
icl sweep results DIR --to=FILE                        all its results as one table (.parquet, .csv)
icl report DIR...                                      one page with figures and claims
icl import chan2022 FILE --to=DIR                      a run from the original's parameters (.npz)
icl bench [NAME ...]                                   measure speed
icl doctor                                             devices, versions, memory, banks
"""

import itertools
import sys
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from absl import flags
from ml_collections import config_flags
from rich.console import Console
from rich.table import Table

from icl_jax import api, cli_sweep, doctor, sampling, transfer
from icl_jax import config as cfg
from icl_jax.data.banks import describe_banks, prepare_bank
from icl_jax.evals.suites import SUITES
from icl_jax.names import suggest
from icl_jax.registry import components
from icl_jax.report.suites import eval_table, suite_table
from icl_jax.training.leaves import CheckpointError
from icl_jax.training.parallel import join_processes, primary

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "Config file; --config.FIELD=VALUE changes a field.")
flags.DEFINE_list("suites", [], "eval: names of suites and other evals (default: all of the run).")
flags.DEFINE_integer("step", -1, "eval, data embed: step of the checkpoint (-1: the newest).")
flags.DEFINE_bool("list", False, "eval: say what there is to evaluate instead.")
flags.DEFINE_integer("num_sequences", 0, "eval, data show: how many sequences (0: the default).")
flags.DEFINE_integer("member", 0, "data show, data embed: which member of the population.")
flags.DEFINE_integer("image_size", 0, "import: pixels a side (0: as the file says, else 105).")
flags.DEFINE_string(
    "to", "", "Where to write: a file (data show, data embed, sweep results), a directory (import, report)."
)
flags.DEFINE_string("data_dir", "", "data prepare: the TFDS directory.")

flags.DEFINE_bool("distributed", False, "train: one of several processes (pods and SLURM are detected).")
flags.DEFINE_string("coordinator", None, "distributed: host:port of process 0, where it is not detected.")
flags.DEFINE_integer("num_processes", None, "distributed: how many processes, where it is not detected.")
flags.DEFINE_integer("process_id", None, "distributed: which of them this is, where it is not detected.")


def _train(args: list[str]) -> None:
    if FLAGS.distributed:
        join_processes(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    run = api.train(_config())
    if not primary():
        return
    steps = run.config.train.num_steps
    if run.step < steps or (damage := run.damage()):
        lacks = "" if run.step < steps else f" ({damage})"
        print(f"stopped at step {run.step:,} of {steps:,}{lacks}; the same command goes on from there")
        sys.exit(cli_sweep.STOPPED)
    print(run.summary())
    for path in run.figures:
        print(path)


def _eval(args: list[str]) -> None:
    if FLAGS.list:
        _wide().print(suites_table())
        _wide().print(evals_table())
        return
    run = api.load_run(_one(args, "icl eval RUN"))
    table = api.evaluate(run, FLAGS.suites or None, step=_step(), num_sequences=FLAGS.num_sequences or None)
    beside = {*run.config.evals.more, *components("eval")}
    of = {name: table.filter(pc.field("suite") == name) for name in pc.unique(table["suite"]).to_pylist()}
    varied = cfg.varied(run.members)
    if suites := [rows for name, rows in of.items() if name not in beside]:
        _wide().print(suite_table(pa.concat_tables(suites), varied))
    for name in sorted(of.keys() & beside):
        _wide().print(eval_table(of[name], varied))


def suites_table() -> Table:
    """Returns the named suites with their facts, for a terminal."""
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for title in ("suite", "context", "counts", "argmax over", "floor: best of", "ceiling"):
        shown.add_column(title)
    for name, suite in SUITES.items():
        shown.add_row(name, suite.context, suite.counts, suite.argmax, ", ".join(suite.floor), ", ".join(suite.ceiling))
    return shown


def evals_table() -> Table:
    """Returns the evals beside the suites with their options, for a terminal."""
    shown = Table(header_style="bold", box=None, pad_edge=False, title="in evals.more", title_justify="left")
    for title in ("eval", "measures", "options"):
        shown.add_column(title)
    for name, component in components("eval").items():
        options = (f"{field} {o.default!r}: {o.doc}" for field, o in component.options.items())
        shown.add_row(name, component.doc, "; ".join(options))
    return shown


def _data(args: list[str]) -> None:
    actions = {"show": _data_show, "banks": _data_banks, "prepare": _data_prepare, "embed": _data_embed}
    _choose(actions, args, "icl data")


def _data_show(args: list[str]) -> None:
    config = _config()
    count = len(cfg.members_of(config))
    if not 0 <= FLAGS.member < count:
        raise ValueError(f"--member={FLAGS.member}: the config has members 0 to {count - 1}")
    sample = sampling.sample(config, FLAGS.num_sequences or 512, member=FLAGS.member)
    for name, value in sample.statistics().items():
        print(f"{name:32s} {value}")
    print(sampling.show(sample, FLAGS.to or "sequences.png"))


def _data_banks(args: list[str]) -> None:
    for name, available, detail in describe_banks():
        print(f"{name:12s} {'available' if available else 'not here'}: {detail}")
    if FLAGS.config is not None:
        print(sampling.show_bank(FLAGS.config, FLAGS.to or "bank.png"))


def _data_prepare(args: list[str]) -> None:
    print(prepare_bank(_one(args, "icl data prepare BANK"), FLAGS.data_dir))


def _data_embed(args: list[str]) -> None:
    run = api.load_run(_one(args, "icl data embed RUN"))
    to = FLAGS.to or str(run.directory / "embeddings.npz")
    print(transfer.embed(run, to, member=FLAGS.member, step=_step()))


def _step() -> int | None:
    return None if FLAGS.step < 0 else FLAGS.step


def _import(args: list[str]) -> None:
    _choose({"chan2022": _import_chan2022}, args, "icl import")


def _import_chan2022(args: list[str]) -> None:
    path = _one(args, "icl import chan2022 FILE --to=DIR")
    if not FLAGS.to:
        raise ValueError("icl import chan2022: name the directory of the new run with --to=DIR")
    run = transfer.import_chan2022(path, FLAGS.to, image_size=FLAGS.image_size)
    model = f"{run.config.model.num_layers}-layer {run.config.model.core}"
    print(f"{run.directory}: {model}; evaluate it with: icl eval {run.directory}")


def _bench(args: list[str]) -> None:
    from icl_jax.bench import run_benchmarks

    run_benchmarks(args)


def _doctor(args: list[str]) -> None:
    Console().print(doctor.report())


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "eval": _eval,
    "data": _data,
    "sweep": cli_sweep.sweep,
    "report": cli_sweep.report,
    "import": _import,
    "bench": _bench,
    "doctor": _doctor,
}


def _choose(actions: dict, args: list[str], command: str) -> None:
    if not args:
        raise ValueError(f"{command} what? {', '.join(actions)}")
    if args[0] not in actions:
        raise ValueError(f"{command}: unknown {args[0]!r}{suggest(args[0], actions)}")
    actions[args[0]](args[1:])


def _one(args: list[str], usage: str) -> str:
    if len(args) != 1:
        raise ValueError(f"usage: {usage}")
    return args[0]


def _wide() -> Console:
    """A console for wide tables: a file or a pipe has no width of its own."""
    return Console() if sys.stdout.isatty() else Console(width=170)


def _config():
    if FLAGS.config is None:
        raise ValueError("name a config file with --config=FILE; the repository's are in configs/")
    return FLAGS.config


def _check_fields(argv: list[str]) -> None:
    """Unknown --config.FIELD: say which field was probably meant, before absl gives up on it."""
    files = [a.split("=", 1)[1] for a in argv if a.startswith(("--config=", "-config="))]
    files += [b for a, b in itertools.pairwise(argv) if a in ("--config", "-config")]
    fields = [a.lstrip("-").split("=")[0].removeprefix("config.") for a in argv if a.lstrip("-").startswith("config.")]
    if files:
        config = cfg.load_config(files[-1])
        for field in fields:
            role = (*cfg.check_field(config, field), "")[1]
            if field.startswith("options.") and role not in config.options:
                raise ValueError(f"--config.{field}: the file sets no options.{role}; set them there first")


def main(argv: list[str] | None = None) -> None:
    """Runs a command; a ValueError ends it with its message and exit code 2."""
    argv = list(sys.argv if argv is None else argv)
    if len(argv) < 2 or argv[1] in ("-h", "--help", "help"):
        print(__doc__)
        return
    try:
        if argv[1] not in COMMANDS:
            raise ValueError(f"unknown command {argv[1]!r}{suggest(argv[1], COMMANDS)}")
        _check_fields(argv)
        rest = FLAGS([f"icl {argv[1]}", *argv[2:]])
        COMMANDS[argv[1]](rest[1:])
    except (ValueError, OSError, CheckpointError, flags.Error) as error:
        print(f"icl: {error}", file=sys.stderr)
        sys.exit(2)
