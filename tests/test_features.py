"""What users combine, end to end on tiny runs: own suites, embedded banks, imports, threads, refusals."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

import icl_jax
from icl_jax.inputs import Pairs
from icl_jax.runs.config import run_spec
from icl_jax.runs.experiment import prepare_experiment
from icl_jax.runs.transfer import num_features

GROUP_SUITE = {"kind": "no_support", "classes": "holdout", "labels": "fixed", "answers": "all", "task": "group"}
HELDOUT_SUITE = "no_support_zipfian_heldout_drawings"


def one_member(**changes):
    """Returns the tiny config with one member on one device."""
    config = tiny_config(hypers__p_bursty=0.5, seeds__init=0, seeds__data=0, runtime__devices=1, train__num_steps=10)
    for path, value in changes.items():
        room, field = path.split("__")
        config[room][field] = value
    return config


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A run on glyphs with a task token, held-out drawings, a suite of its own, logs; trained off the main thread."""
    config = one_member(bank__name="glyphs", bank__dim=64, bank__image_size=12, bank__holdout_exemplars=4)
    config.bank.num_classes, config.task.task_token, config.seeds.split = 24, True, 7
    config.model.encoder, config.runtime.tensorboard = "mlp", True
    config.evals.suites = ("fewshot_holdout", "no_support_zipfian", HELDOUT_SUITE)
    config.evals.custom.alphabet = GROUP_SUITE
    runs = []
    path = tmp_path_factory.mktemp("drawn") / "run"
    thread = threading.Thread(target=lambda: runs.append(icl_jax.train(config, path, progress=False)))
    thread.start()
    thread.join()
    return runs[0]


def scores(table, metric):
    rows = table.to_pylist()
    return {r["suite"]: r["value"] for r in rows if r["metric"] == metric and r["step"] in (10, None)}


def test_a_run_without_the_main_thread_has_all_its_suites_and_logs(drawn):
    losses = scores(drawn.table, "loss")
    assert set(losses) == {"train", "fewshot_holdout", "no_support_zipfian", HELDOUT_SUITE, "alphabet"}
    assert np.isfinite(list(losses.values())).all()
    assert list((drawn.directory / "tensorboard").rglob("events*"))


def test_own_suites_are_evaluated_by_name_alone(drawn):
    again = scores(icl_jax.evaluate(drawn, ["alphabet"]), "loss")
    assert set(again) == {"alphabet"}
    np.testing.assert_allclose(again["alphabet"], scores(drawn.table, "loss")["alphabet"], atol=1e-5)


@pytest.fixture(scope="module")
def embedded(drawn, tmp_path_factory):
    return icl_jax.embed(drawn, tmp_path_factory.mktemp("embedded") / "bank.npz")


def test_an_embedded_bank_is_the_encoder_applied_and_records_its_run(drawn, embedded):
    experiment = prepare_experiment(drawn.config)
    with np.load(embedded) as file:
        np.testing.assert_array_equal(file["class_order"], experiment.orders[0])
        assert int(file["num_holdout"]) == 8 and "step 10 member 0" in str(file["origin"])
        stored = file["embeddings"]
    assert stored.shape == (24, 20, 16)
    pixels = experiment.program.source.shared()["pixels"].reshape(24, 20, 12, 12, 1) / np.float32(255)
    outputs = np.asarray(experiment.program.model.encode(drawn.variables(0), jnp.asarray(pixels)))
    expected = (outputs - outputs.mean((0, 1))) / outputs.std((0, 1))
    np.testing.assert_allclose(stored, expected, atol=2e-3)


def test_features_of_items_in_parts_are_those_of_all_parts():
    config = tiny_config(model__labels="interleaved", model__item_tokens=2)
    model = prepare_experiment(config).program.model
    variables = jax.eval_shape(model.init, jax.random.key(0))
    features = jax.eval_shape(model.encode, variables, jnp.zeros((3, 5, 8)))
    assert features.shape == (3, 5, num_features(run_spec(config))) == (3, 5, 2 * 16)


def test_a_run_on_an_embedded_bank_keeps_its_order_and_holdout(embedded, tmp_path):
    config = one_member(bank__name="embeddings", bank__path=str(embedded), model__encoder="identity", seeds__split=3)
    config.bank.num_classes, config.bank.dim = 0, 64
    with np.load(embedded) as file:
        np.testing.assert_array_equal(prepare_experiment(config).orders[0], file["class_order"])
    run = icl_jax.train(config, tmp_path / "run", progress=False)
    assert np.isfinite(scores(run.table, "loss")["fewshot_holdout"])
    config.task.num_holdout = 9
    with pytest.raises(ValueError, match=r"9 > 8 classes held out .*lower it to 8"):
        prepare_experiment(config)


@pytest.mark.filterwarnings("default:hypers.warmup_steps:UserWarning")
def test_a_run_starts_from_imported_parameters(chan2022, tmp_path):
    path = chan2022("transformer_symbols")
    imported = icl_jax.import_chan2022(path, tmp_path / "imported")
    with pytest.raises(ValueError, match=r"not a whole \.npz"):
        icl_jax.import_chan2022(__file__, tmp_path / "other")
    model = prepare_experiment(imported.config).program.model
    with np.load(path) as golden:
        batch = Pairs(jnp.asarray(golden["examples"]), jnp.asarray(golden["labels"]), jnp.zeros(4, jnp.int32))
        logits = jax.jit(model.apply)(imported.variables(), batch).logits
        np.testing.assert_allclose(logits, golden["eval/logits"][:, -1], atol=2e-4)
    config = imported.config
    config.init_from.run, config.hypers.learning_rate = str(imported.directory), 0.0
    config.train.batch_size = config.train.num_steps = config.evals.every = config.checkpoint.every = 8
    config.evals.num_sequences = config.evals.batch_size = 16
    config.runtime.devices, config.runtime.figures, config.runtime.tensorboard = 1, False, False
    run = icl_jax.train(config, tmp_path / "run", progress=False)
    jax.tree.map(np.testing.assert_array_equal, run.variables()["params"], imported.variables()["params"])


def test_noise_is_the_gaussian_banks_own():
    spec = prepare_experiment(one_member(hypers__noise_scale=(0.0, 0.3))).program.spec
    assert not spec.task.pixel_noise


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"bank__name": "symbols", "bank__dim": 64, "model__encoder": "resnet"}, "use 'embedding'"),
        ({"model__encoder": "resnet"}, "use 'mlp' or 'linear'"),
        ({"model__encoder": "identity"}, "16 components"),
        ({"task__random_rare": True}, "needs a bank of images"),
        ({"task__kind": "mixed", "hypers__p_bursty": 0.9}, "set task.num_common"),
        (
            {"task__kind": "fewshot", "task__core_labels": "dynamic", "hypers__p_bursty": 0.9},
            "no class keeps a label",
        ),
        ({"task__loss": "all"}, "interleaved"),
        ({"evals__suites": ("fewshot_holdout", "no_support_zipfian", HELDOUT_SUITE)}, "holdout_exemplars"),
        ({"evals__num_sequences": 0}, "at least 1"),
        ({"runtime__chunk_steps": 0}, "at least 1"),
        ({"init_from__run": "nowhere"}, "holds no run"),
    ],
)
def test_refused_before_anything_is_written(changes, words, tmp_path):
    config = one_member(**changes)
    with pytest.raises(ValueError, match=words):
        icl_jax.train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_a_file_that_is_no_bank_is_refused_by_name(suffix, tmp_path):
    path = tmp_path / f"bank{suffix}"
    path.write_text("not an array")
    config = one_member(bank__name="embeddings", bank__path=str(path))
    config.bank.num_classes, config.bank.dim = 0, 64
    with pytest.raises(ValueError, match=rf"bank\{suffix} does not read as \{suffix}"):
        prepare_experiment(config)
