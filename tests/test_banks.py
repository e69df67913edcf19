"""Banks: readers, storage, transforms, rendering, made-up banks, errors."""

import dataclasses
import pathlib
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icl_jax.data import cache, images, omniglot, vectors
from icl_jax.data.banks import describe_banks, load_bank, prepare_bank, render, resolve_bank
from icl_jax.spec import BankSpec

GLYPHS = BankSpec(name="glyphs", num_classes=6, num_exemplars=4, image_size=14)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Banks are cached in a directory of this test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def glyphs():
    return load_bank(GLYPHS)


@pytest.fixture(scope="module")
def full(omniglot_dir):
    """All of Omniglot at 105 pixels, by the TFDS reader."""
    return omniglot.load_omniglot(omniglot.find_omniglot(str(omniglot_dir)), 105)


def every_item(spec, bank, **options):
    """All items (classes, exemplars, ...) of a bank, one sequence per class."""
    exemplars = jnp.tile(jnp.arange(bank.num_exemplars), (bank.num_classes, 1))
    classes = jnp.broadcast_to(jnp.arange(bank.num_classes)[:, None], exemplars.shape)
    keys = jnp.zeros((bank.num_classes, 2), jnp.uint32)
    return np.asarray(render(spec, bank.arrays, classes, exemplars, keys, 0.0, **options))


def stored_images(bank, size):
    """Stored drawings (classes, exemplars, S, S) in [0, 1], by numpy."""
    if "bits" in bank.arrays:
        ink = np.unpackbits(bank.arrays["bits"], axis=-1, count=size**2).astype(np.float32)
    else:
        ink = bank.arrays["pixels"].astype(np.float32) / 255
    return ink.reshape(*ink.shape[:2], size, size)


# --- Omniglot


def test_both_readers_give_the_same_classes_and_drawings(full, shared_dir):
    zips = omniglot.find_omniglot(str(shared_dir / "data" / "omniglot"))
    assert zips.kind == "zips"
    other = omniglot.load_omniglot(zips, 105)
    assert full.keys() == other.keys()
    for name in full:
        np.testing.assert_array_equal(full[name], other[name])


def test_omniglot_has_its_classes_drawings_alphabets_and_polarity(full, omniglot_dir):
    assert full["bits"].shape == (1623, 20, 1379)
    assert len(full["alphabet_names"]) == 50 and len(np.unique(full["alphabet"])) == 50
    names = (omniglot_dir / "omniglot" / "3.0.0" / "label.labels.txt").read_text().split()
    for label in (0, 963, 964, 1622):
        alphabet = full["alphabet_names"][full["alphabet"][label]]
        assert names[label].startswith(f"{alphabet}_")
    ink = np.unpackbits(full["bits"][::100], axis=-1, count=105**2).mean()
    assert 0.02 < ink < 0.1  # strokes on paper, not paper on strokes


def test_omniglot_drawing_is_that_of_its_file(full, shared_dir):
    from PIL import Image

    with zipfile.ZipFile(shared_dir / "data" / "omniglot" / "images_evaluation.zip") as file:
        name = next(n for n in file.namelist() if n.endswith("/0965_07.png"))
        drawing = ~np.asarray(Image.open(file.open(name)))
    np.testing.assert_array_equal(np.unpackbits(full["bits"][964, 6], count=105**2).reshape(105, 105), drawing)


DAMAGES = {
    "cut short": lambda raw: raw[: len(raw) // 2],
    "flipped": lambda raw: bytes(byte ^ (255 if i % (len(raw) // 7) == 1 else 0) for i, byte in enumerate(raw)),
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    ("form", "file"),
    [
        ("omniglot", "images_evaluation.zip"),
        ("tfds", "omniglot/3.0.0/omniglot-test.array_record-00000-of-00001"),
        ("tfds", "omniglot/3.0.0/dataset_info.json"),
    ],
)
def test_a_damaged_file_of_omniglot_is_named(shared_dir, tmp_path, monkeypatch, form, file, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole, place = shared_dir / "data" / form, tmp_path / form
    for path in filter(pathlib.Path.is_file, whole.rglob("*")):
        (copy := place / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(DAMAGES[damage](path.read_bytes()) if str(path).endswith(file) else path.read_bytes())
    with pytest.raises(ValueError, match=rf"{form}/{file.partition('array')[0]}.* is damaged .*; get it anew"):
        omniglot.load_omniglot(omniglot.find_omniglot(str(place)), 105)


def test_omniglot_banks_share_content_and_cost_little(full, omniglot_dir):
    spec = BankSpec(name="omniglot", image_size=14, data_dir=str(omniglot_dir))
    bank = load_bank(spec)
    assert load_bank(dataclasses.replace(spec)) is bank
    assert (bank.num_classes, bank.num_exemplars, bank.num_groups, bank.block) == (1623, 20, 50, 1)
    assert bank.arrays["pixels"].nbytes == 1623 * 20 * 14 * 14
    ink = np.unpackbits(full["bits"], axis=-1, count=105**2).mean()
    np.testing.assert_allclose(bank.arrays["pixels"].mean() / 255, ink, rtol=1e-3)


def test_tfds_in_another_order_still_has_all_drawings():
    names, labels = ["A_0", "A_1"], [0, 1] * 20
    assert omniglot._drawers("train", names, labels) == [d for d in range(20) for _ in range(2)]


# --- images


@pytest.mark.parametrize("size", [3, 7, 14, 28, 105, 120])
def test_area_resampling_preserves_mean_ink(size):
    drawn = np.random.default_rng(0).integers(0, 2, (5, 105, 105))
    resampled = images.area_resample(drawn, size)
    np.testing.assert_allclose(resampled.mean((1, 2)), drawn.mean((1, 2)), rtol=1e-5)
    if size == 105:
        np.testing.assert_array_equal(resampled, drawn)


def test_area_resampling_is_the_mean_over_boxes():
    drawn = np.random.default_rng(0).random((2, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(images.area_resample(drawn, 4), drawn.reshape(2, 4, 3, 4, 3).mean((2, 4)), rtol=1e-6)
    halves = images.area_resample(np.array([[[0, 4, 8], [0, 4, 8], [0, 4, 8]]]), 2)
    np.testing.assert_allclose(halves[0, 0], [4 / 3, 20 / 3], rtol=1e-6)  # thirds of 0, 0, 4 and of 4, 8, 8


def test_bits_round_trip_and_grey_stays_in_bytes():
    drawn = 255 * np.random.default_rng(0).integers(0, 2, (3, 2, 5, 5)).astype(np.uint8)
    packed = images.store(drawn)["bits"]
    assert packed.shape == (3, 2, 4)
    unpacked = images.unpack_bits(jnp.asarray(packed).reshape(6, 4), 25)
    np.testing.assert_array_equal(255 * unpacked.reshape(3, 2, 5, 5), drawn)
    drawn[0, 0, 0, 0] = 1
    np.testing.assert_array_equal(images.store(drawn)["pixels"], drawn.reshape(3, 2, 25))


def test_transforms_are_numpys_by_both_ways():
    drawn = np.random.default_rng(0).integers(0, 256, (8, 5, 5)).astype(np.uint8)
    expected = [np.rot90(np.fliplr(x) if t // 4 else x, t % 4) for t, x in enumerate(drawn)]
    np.testing.assert_array_equal(images.transform(jnp.asarray(drawn), jnp.arange(8)), expected)
    source = np.asarray(images.source_pixels(jnp.arange(8), 5)).reshape(8, -1)
    looked_up = np.take_along_axis(drawn.reshape(8, -1), source, axis=1).reshape(8, 5, 5)
    np.testing.assert_array_equal(looked_up, expected)


@pytest.mark.parametrize("form", ["bits", "pixels"])
def test_augmented_class_is_base_times_8_plus_transform(form):
    spec = dataclasses.replace(GLYPHS, augment=True)
    bank = load_bank(spec)
    if form == "bits":
        binary = np.where(bank.arrays["pixels"] > 127, 255, 0).astype(np.uint8).reshape(6, 4, 14, 14)
        bank = dataclasses.replace(bank, arrays=images.store(binary))
    assert form in bank.arrays
    assert (bank.num_classes, bank.block, len(bank.groups)) == (48, 8, 48)
    items, stored = every_item(spec, bank)[..., 0], stored_images(bank, 14)
    for c in range(48):
        flipped = stored[c // 8, :, :, ::-1] if c % 8 // 4 else stored[c // 8]
        np.testing.assert_allclose(items[c], np.rot90(flipped, c % 4, axes=(1, 2)), atol=1e-6)


def test_single_and_separated(glyphs):
    stored = stored_images(glyphs, 14)
    single_spec, separated_spec = (dataclasses.replace(GLYPHS, exemplars=e) for e in ("single", "separated"))
    single, separated = load_bank(single_spec), load_bank(separated_spec)
    assert (single.num_classes, single.num_exemplars) == (6, 1)
    assert (separated.num_classes, separated.num_exemplars) == (24, 1)
    np.testing.assert_allclose(every_item(single_spec, single)[:, 0, :, :, 0], stored[:, 0], atol=1e-6)
    items = every_item(separated_spec, separated)[:, 0, :, :, 0]
    np.testing.assert_allclose(items, stored.reshape(24, 14, 14), atol=1e-6)
    np.testing.assert_array_equal(separated.groups, np.repeat(glyphs.groups, 4))
    assert len({glyphs.digest, single.digest, separated.digest}) == 3


def test_ink_is_one_or_zero(glyphs):
    items = every_item(GLYPHS, glyphs)
    assert items.dtype == np.float32 and items.min() == 0 and items.max() == 1 and items.mean() < 0.5
    np.testing.assert_allclose(every_item(dataclasses.replace(GLYPHS, ink=0.0), glyphs), 1 - items, atol=1e-6)


@pytest.fixture(scope="module")
def noisy(glyphs):
    """Items of 16 sequences, the last of the class of the first: clean, at noise 0.5, with random images."""
    keys = jnp.asarray(np.random.default_rng(0).integers(0, 2**32, (2, 8, 2), dtype=np.uint32))
    classes = jnp.tile(jnp.array([0, 1, 2, 3, 4, 0]), (2, 8, 1))
    exemplars = jnp.zeros_like(classes).at[..., -1].set(1)
    draw = lambda scale, **kw: np.asarray(render(GLYPHS, glyphs.arrays, classes, exemplars, keys, scale, **kw))
    return draw(0.0), draw(0.5, noise=True), draw(0.0, random_image=classes < 2)


def test_pixel_noise_has_its_scale_and_is_fresh(noisy):
    clean, shown, _ = noisy
    noise = (shown - clean).reshape(96, -1)
    assert clean.shape == (2, 8, 6, 14, 14, 1)
    assert abs(noise.mean()) < 4 * 0.5 / np.sqrt(noise.size)
    np.testing.assert_allclose(noise.std(), 0.5, rtol=4 / np.sqrt(2 * noise.size))
    correlations = np.corrcoef(noise)[np.triu_indices(96, 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(196)


def test_random_images_are_constant_within_a_sequence_and_differ_between_them(noisy):
    clean, _, shown = noisy
    shown = shown.reshape(16, 6, -1)
    assert set(np.unique(shown[:, :2])) == {0, 1}
    np.testing.assert_array_equal(shown[:, 0], shown[:, 5])  # class 0 in two exemplars
    assert len(np.unique(shown[:, :2].reshape(32, -1), axis=0)) == 32
    assert abs(shown[:, :2].mean() - 0.5) < 4 * 0.5 / np.sqrt(32 * 196)
    np.testing.assert_array_equal(shown[:, 2:5], clean.reshape(16, 6, -1)[:, 2:5])


# --- vectors and symbols


@pytest.fixture(scope="module")
def gaussian():
    """A rendering function of the gaussian bank, and the bank."""
    spec = BankSpec(name="gaussian", num_classes=50, dim=32)
    bank = load_bank(spec)

    @jax.jit
    def draw(classes, keys, eps, exemplars=None):
        exemplars = jnp.broadcast_to(jnp.arange(8), classes.shape) if exemplars is None else exemplars
        return render(spec, bank.arrays, classes, exemplars, keys, eps)

    return draw, bank


def test_an_exemplar_of_the_gaussian_bank_is_one_item_of_its_sequence(gaussian):
    draw, _ = gaussian
    classes = jnp.tile(jnp.array([3, 3, 7, -1, 3, 7, -1, -1]), (500, 1))
    exemplars = jnp.tile(jnp.array([0, 1, 0, 4, 0, 2, 4, 5]), (500, 1))
    keys = jnp.asarray(np.random.default_rng(4).integers(0, 2**32, (500, 2), dtype=np.uint32))
    items = np.asarray(draw(classes, keys, 1.0, exemplars))
    equal = (items[:, :, None] == items[:, None]).all(-1)
    pair = np.stack([classes, exemplars], axis=-1)
    np.testing.assert_array_equal(equal, (pair[:, :, None] == pair[:, None]).all(-1))


def test_gaussian_items_have_variance_one_over_dim_at_any_noise(gaussian):
    draw, bank = gaussian
    rng = np.random.default_rng(1)
    classes = jnp.asarray(rng.integers(0, 50, (500, 8)))
    keys = jnp.asarray(rng.integers(0, 2**32, (500, 2), dtype=np.uint32))
    means = np.asarray(bank.arrays["means"])[np.asarray(classes)]
    for eps in (0.0, 0.5, 2.0):
        items = np.asarray(draw(classes, keys, eps))
        np.testing.assert_allclose((items**2).sum(-1).mean(), 1, rtol=0.1)
        noise = items * np.sqrt(1 + eps**2) - means
        np.testing.assert_allclose(noise.std() * np.sqrt(32), eps, rtol=0.01, atol=1e-6)


def test_gaussian_bank_of_more_classes_begins_with_the_same(gaussian):
    longer = load_bank(BankSpec(name="gaussian", num_classes=60, dim=32))
    np.testing.assert_array_equal(longer.arrays["means"][:50], gaussian[1].arrays["means"])
    other = load_bank(BankSpec(name="gaussian", num_classes=50, dim=32, seed=1))
    assert other.digest != gaussian[1].digest


def test_fresh_classes_share_a_mean_within_their_sequence_only(gaussian):
    draw, bank = gaussian
    classes = jnp.tile(jnp.array([-1, 3, -2, -1, 7, -2, 3, -1]), (500, 1))
    keys = jnp.asarray(np.random.default_rng(2).integers(0, 2**32, (500, 2), dtype=np.uint32))
    items = np.asarray(draw(classes, keys, 0.0))
    np.testing.assert_array_equal(items[:, 0], items[:, 3])
    np.testing.assert_array_equal(items[:, 0], items[:, 7])
    np.testing.assert_array_equal(items[:, 2], items[:, 5])
    np.testing.assert_allclose(items[:, 1], np.tile(bank.arrays["means"][3], (500, 1)), atol=1e-6)
    new = items[:, [0, 2]].reshape(1000, 32)
    np.testing.assert_allclose(new.std() * np.sqrt(32), 1, rtol=0.03)
    assert np.abs(np.corrcoef(new[:200])[np.triu_indices(200, 1)]).max() < 0.9


def test_items_depend_on_their_own_sequence_only(gaussian):
    draw, _ = gaussian
    keys = jnp.asarray(np.random.default_rng(3).integers(0, 2**32, (500, 2), dtype=np.uint32))
    classes = jnp.tile(jnp.arange(8) - 3, (500, 1))
    whole = np.asarray(draw(classes, keys, 1.0))
    np.testing.assert_allclose(draw(classes[::-1], keys[::-1], 1.0)[::-1], whole, atol=1e-6)


def test_symbols_are_their_class():
    spec = BankSpec(name="symbols")
    bank = load_bank(spec)
    classes = jnp.array([[3, 1622, 0]])
    items = render(spec, bank.arrays, classes, classes, jnp.zeros((1, 2), jnp.uint32), 0.0)
    assert (bank.num_classes, bank.item_shape, bank.item_kind) == (1623, (), "symbol")
    assert items.dtype == jnp.int32
    np.testing.assert_array_equal(items, classes)
    with pytest.raises(ValueError, match=r"pixel_noise.*symbols"):
        render(spec, bank.arrays, classes, classes, jnp.zeros((1, 2), jnp.uint32), 0.0, noise=True)


# --- embeddings


def test_embeddings_files_of_every_format_give_the_same_bank(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", anything=array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["embeddings"] = array
    specs = [BankSpec(name="embeddings", path=str(tmp_path / f"a.{end}")) for end in ("npy", "npz", "h5")]
    banks = [load_bank(spec) for spec in specs]
    assert len({bank.digest for bank in banks}) == 1
    np.testing.assert_array_equal(every_item(specs[0], banks[0]), array)


def test_saved_embeddings_keep_order_holdout_origin_and_groups(tmp_path):
    order, groups = np.array([2, 0, 3, 1]), np.array([0, 1, 1, 0])
    spec = BankSpec(name="embeddings", path=str(tmp_path / "e.npz"), holdout_exemplars=1)
    vectors.save_embeddings(spec.path, np.ones((4, 3, 5)), order, 2, "run x step 7", groups)
    bank = load_bank(spec)
    np.testing.assert_array_equal(bank.class_order, order)
    np.testing.assert_array_equal(bank.groups, groups)
    assert (bank.num_holdout, bank.origin, bank.num_groups, bank.num_train_exemplars) == (
        2,
        "run x step 7",
        2,
        2,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["e.npz"]
    vectors.save_embeddings(spec.path, np.zeros((4, 3, 5)), order, 2, "run x step 7", groups)
    assert load_bank(spec).digest != bank.digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embeddings": np.ones((4, 5))}, r"shape \(4, 5\) is not \(classes, exemplars, dim\)"),
        ({"embeddings": np.full((4, 3, 5), np.nan)}, "60 of 60 values are NaN"),
        ({"embeddings": np.ones((4, 3, 5)), "class_order": np.zeros(4)}, "not a permutation of the 4"),
        ({"embeddings": np.ones((4, 3, 5)), "num_holdout": 4}, r"num_holdout 4 is not in \[0, 4\)"),
        ({"embeddings": np.ones((4, 3, 5)), "groups": np.zeros(3)}, r"groups \(3,\)"),
        ({"x": np.ones((4, 3, 5)), "y": np.ones((4, 3, 5))}, "name the array of items 'embeddings'"),
    ],
)
def test_bad_embeddings_are_refused(tmp_path, fields, message):
    np.savez(tmp_path / "bad.npz", **fields)
    with pytest.raises(ValueError, match=message):
        load_bank(BankSpec(name="embeddings", path=str(tmp_path / "bad.npz")))


# --- choice of bank, errors, cache


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "omniglott"}, r"unknown bank\.name 'omniglott'; did you mean 'omniglot'"),
        ({"exemplars": "seperated"}, "did you mean 'separated'"),
        ({"ink": 0.5}, "ink 0.5"),
        ({"image_size": 0}, r"image_size 0 is not in \[2, 512\]"),
        ({"num_classes": -1}, "bank.num_classes -1 must be at least 0"),
        ({"num_exemplars": 0}, "bank.num_exemplars 0 must be at least 1"),
        ({"holdout_exemplars": -1}, "bank.holdout_exemplars -1 must be at least 0"),
        ({"name": "gaussian", "augment": True}, "bank 'gaussian' has no drawings to flip"),
        ({"name": "embeddings"}, "set bank.path"),
        ({"name": "omniglot", "data_dir": "/no/such"}, r"no directory /no/such.*\(1\).*\(2\).*\(3\).*glyphs"),
        ({"name": "auto", "data_dir": "/no/such"}, "no directory /no/such"),
        ({"holdout_exemplars": 4}, r"holdout_exemplars 4 of 4 .* is not in \[0, 3\]"),
        ({"exemplars": "single", "holdout_exemplars": 1}, "holdout_exemplars 1 of 1"),
    ],
)
def test_impossible_banks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        load_bank(dataclasses.replace(GLYPHS, **changes))


def test_random_images_need_images():
    spec = BankSpec(name="gaussian", num_classes=4)
    ids, keys = jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2), jnp.uint32)
    with pytest.raises(ValueError, match=r"random_rare.*gaussian"):
        render(spec, load_bank(spec).arrays, ids, ids, keys, 0.0, random_image=ids == 0)


def test_auto_is_omniglot_where_it_is_found_else_glyphs(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert resolve_bank(BankSpec()).name == "glyphs"
    assert dict((n, ok) for n, ok, _ in describe_banks()) == {
        "omniglot": False,
        "glyphs": True,
        "gaussian": True,
        "symbols": True,
        "embeddings": True,
        "features": True,
    }
    for name in omniglot.ZIPS:
        (tmp_path / name).touch()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    found = resolve_bank(BankSpec())
    assert (found.name, found.data_dir) == ("omniglot", str(tmp_path))
    for name in ("auto", "omniglot"):  # sizes it cannot have are not ignored
        for field in ("num_classes", "num_exemplars"):
            with pytest.raises(ValueError, match=rf"bank.{field} 7: bank 'omniglot' always has .* 'glyphs'"):
                resolve_bank(BankSpec(name=name, **{field: 7}))
    assert describe_banks()[0][1]


def test_tfds_made_for_tensorflow_says_so(tmp_path):
    version = tmp_path / "omniglot" / "3.0.0"
    version.mkdir(parents=True)
    (version / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    with pytest.raises(ValueError, match="tfrecord form, which only TensorFlow reads"):
        resolve_bank(BankSpec(name="omniglot", data_dir=str(tmp_path)))


def test_prepare_without_tensorflow_names_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"data-prep.*images_background\.zip"):
        prepare_bank("omniglot", str(tmp_path))
    assert "needs no preparation" in prepare_bank("glyphs")


def test_holdout_exemplars_are_the_last():
    bank = load_bank(dataclasses.replace(GLYPHS, holdout_exemplars=1))
    assert (bank.num_exemplars, bank.num_train_exemplars) == (4, 3)


def test_digest_is_of_the_content(glyphs):
    assert load_bank(dataclasses.replace(GLYPHS, ink=0.0)).digest == glyphs.digest
    assert load_bank(dataclasses.replace(GLYPHS, seed=1)).digest != glyphs.digest
    a = np.arange(6, dtype=np.int32)
    assert cache.array_digest(a) == "debc6190bd8e2df9"  # sha256 of b"(6,) <i4 " and the 24 bytes
    assert cache.array_digest(a.reshape(2, 3)) != cache.array_digest(a)


def test_cache_survives_damage_and_unwritable_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def make():
        calls.append(1)
        return {"x": np.arange(1000)}

    for _ in range(2):
        np.testing.assert_array_equal(cache.cached("kind", "key", make)["x"], np.arange(1000))
    (path,) = (tmp_path / "icl_jax" / "banks").iterdir()
    assert len(calls) == 1
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(cache.cached("kind", "key", make)["x"], np.arange(1000))
    assert len(calls) == 2
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(cache.cached("kind", "key", make)["x"]) == 1000
