"""Banks: which items exist, loaded on the host and rendered on the device."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Num, UInt32

from icl_jax import plugins
from icl_jax.data import images, omniglot, vectors
from icl_jax.data.cache import array_digest, cached, file_digest
from icl_jax.names import suggest
from icl_jax.registry import BankComponent, check_options, components, find, load
from icl_jax.spec import BankSpec, RunSpec

AUTO, PREFERRED, FALLBACK = "auto", "omniglot", "glyphs"  # "auto": the one that is preferred where it is there
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 2, 512


@dataclasses.dataclass(frozen=True, eq=False)
class Bank:
    """The items of `num_classes` classes x `num_exemplars` exemplars.

    Training draws exemplars [0, num_train_exemplars); the rest are kept for evaluation.
    item_kind: image | vector | symbol; item_shape: (S, S, 1), (D,) or ().
    groups: int32 (num_classes,), the second label of a class (its alphabet), named by group_names.
    block: classes that stay together when the class order is drawn.
    class_order, num_holdout, origin: what an embeddings file records of the run it comes from.
    orders: of a bank that is several, one after another (`data.features`): the class order of each member, by what the
    member takes; missing: files of it that are not made yet, so that it serves for a plan alone.
    digest: of the content. arrays: what goes to the device, in the smallest form.
    """

    name: str
    num_classes: int
    num_exemplars: int
    num_train_exemplars: int
    item_kind: str
    item_shape: tuple[int, ...]
    groups: np.ndarray
    group_names: tuple[str, ...]
    block: int
    class_order: np.ndarray | None
    digest: str
    arrays: dict[str, np.ndarray]
    num_holdout: int | None = None
    origin: str = ""
    orders: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def num_groups(self) -> int:
        return len(self.group_names)


class NotHere(ValueError):
    """The data of a bank are not on this machine."""


def resolve_bank(spec: BankSpec) -> BankSpec:
    """Returns the spec with 'auto' made concrete and Omniglot's directory filled in; loads nothing.

    Raises:
      ValueError: unknown bank, a field out of range, or Omniglot asked for and not found.
    """
    _validate(spec)
    if spec.name != AUTO:
        return _found(spec)
    try:
        return _found(dataclasses.replace(spec, name=PREFERRED))
    except NotHere:
        if spec.data_dir:
            raise
        return dataclasses.replace(spec, name=FALLBACK)


def _found(spec: BankSpec) -> BankSpec:
    bank = find("bank", spec.name)
    return load(bank.find)(spec) if bank.find else spec


def find_omniglot(spec: BankSpec) -> BankSpec:
    """Returns the spec with Omniglot's directory filled in."""
    try:
        location = omniglot.find_omniglot(spec.data_dir)
    except ValueError as error:
        raise NotHere(str(error)) from None
    _check_sizes_of_omniglot(spec)
    return dataclasses.replace(spec, data_dir=str(location.data_dir))


def _check_sizes_of_omniglot(spec: BankSpec) -> None:
    """Omniglot has the classes and drawings that it has."""
    for field, way_out in (("num_classes", "hypers.num_classes or task.max_classes"), ("num_exemplars", "")):
        value, default = getattr(spec, field), getattr(BankSpec(), field)
        if value != default:
            instead = f" (to train on fewer, {way_out})" if way_out else ""
            raise ValueError(
                f"bank.{field} {value}: bank 'omniglot' always has 1,623 classes x 20 drawings; leave it at "
                f"{default}{instead}, or use bank 'glyphs'"
            )


def load_bank(spec: BankSpec, members: Sequence[Any] = ()) -> Bank:
    """Returns a bank; the same spec in one process gives the same object, but for one that its members decide.

    Raises:
      ValueError: as `resolve_bank`, or what is wrong with the data's files.
    """
    spec = resolve_bank(spec)
    bank = find("bank", spec.name)
    if bank.of_members:
        return bank.builder()(spec, members)
    return bank.builder()(spec) if bank.reloads else _load(spec, plugins.digest_of(bank))


@functools.lru_cache(maxsize=4)
def _load(spec: BankSpec, plugin: str) -> Bank:
    """plugin: digest of the one that the bank is from, as an edited one makes another bank."""
    return find("bank", spec.name).builder()(spec)


def resolve_spec(spec: RunSpec) -> RunSpec:
    """Returns the spec of a run with its bank as `resolve_bank` gives it."""
    return dataclasses.replace(spec, bank=resolve_bank(spec.bank))


def digest_of(spec: RunSpec) -> str:
    """Returns the digest of the bank of a run; a bank that its members decide has its name, as they say the rest."""
    return spec.bank.name if find("bank", spec.bank.name).of_members else load_bank(spec.bank).digest


def _validate(spec: BankSpec) -> None:
    """Raises ValueError for what can be refused without loading anything."""
    if spec.name not in (known := (AUTO, *components("bank"))):
        raise ValueError(f"unknown bank.name {spec.name!r}{suggest(spec.name, known)}")
    if spec.ink not in (0, 1):
        raise ValueError(f"bank.ink {spec.ink} is neither 1 (ink 1 on paper 0) nor 0 (ink 0 on paper 1)")
    if not MIN_IMAGE_SIZE <= spec.image_size <= MAX_IMAGE_SIZE:
        raise ValueError(f"bank.image_size {spec.image_size} is not in [{MIN_IMAGE_SIZE}, {MAX_IMAGE_SIZE}]")
    check_options("bank", spec)
    has_images = spec.name == AUTO or find("bank", spec.name).item_kind == "image"
    if not has_images and (spec.augment or spec.exemplars != "all"):
        raise ValueError(
            f"bank {spec.name!r} has no drawings to flip or separate (augment {spec.augment}, exemplars "
            f"{spec.exemplars!r}); use augment False and exemplars 'all', or bank 'omniglot' or 'glyphs'"
        )


def _train_exemplars(spec: BankSpec, num_exemplars: int) -> int:
    if not 0 <= spec.holdout_exemplars < num_exemplars:
        raise ValueError(
            f"bank.holdout_exemplars {spec.holdout_exemplars} of {num_exemplars} exemplars per class (bank "
            f"{spec.name!r}, exemplars {spec.exemplars!r}) is not in [0, {num_exemplars - 1}]"
        )
    return num_exemplars - spec.holdout_exemplars


def make_bank(
    spec: BankSpec, kind: str, item_shape: tuple[int, ...], size: tuple[int, int], arrays: dict, **fields
) -> Bank:
    """Returns a bank of size (classes, exemplars); the digest covers all that decides its items."""
    num_classes, num_exemplars = size
    groups = fields.pop("groups", None)
    groups = np.zeros(num_classes, np.int32) if groups is None else groups
    order = fields.pop("class_order", None)
    header = np.array([spec.name, kind, str(item_shape), str(size), ",".join(sorted(arrays))])
    digest = fields.pop("digest", "") or array_digest(
        header, groups, *([] if order is None else [order]), *(arrays[name] for name in sorted(arrays))
    )
    return Bank(
        name=spec.name,
        num_classes=num_classes,
        num_exemplars=num_exemplars,
        num_train_exemplars=_train_exemplars(spec, num_exemplars),
        item_kind=kind,
        item_shape=item_shape,
        groups=groups,
        group_names=fields.pop("group_names", ("all",)),
        block=images.NUM_TRANSFORMS if spec.augment else 1,
        class_order=order,
        digest=digest,
        arrays=arrays,
        **fields,
    )


def _num_classes(spec: BankSpec) -> int:
    return spec.num_classes or find("bank", spec.name).num_classes


def load_omniglot(spec: BankSpec) -> Bank:
    """Returns Omniglot, read from its files at the size asked for."""
    drawings = omniglot.load_omniglot(omniglot.find_omniglot(spec.data_dir), spec.image_size)
    arrays = {name: drawings[name] for name in ("bits", "pixels") if name in drawings}
    return _image_bank(spec, arrays, drawings["alphabet"], tuple(str(n) for n in drawings["alphabet_names"]))


def load_glyphs(spec: BankSpec) -> Bank:
    """Returns made-up characters, drawn from the seed or out of the cache."""
    from icl_jax.data import glyphs, strokes

    count = _num_classes(spec)
    sizes = (count, spec.num_exemplars, spec.image_size, spec.seed)
    key = f"{file_digest([pathlib.Path(str(m.__file__)) for m in (glyphs, strokes)])} {sizes}"

    def draw() -> dict[str, np.ndarray]:
        drawn = glyphs.draw_glyphs(*sizes)
        return images.store(np.asarray(drawn.images)) | {"alphabet": np.asarray(drawn.alphabet, np.int32)}

    arrays = cached("glyphs", key, draw)
    alphabet = arrays.pop("alphabet")
    return _image_bank(spec, arrays, alphabet, tuple(f"alphabet_{i}" for i in range(alphabet.max() + 1)))


def _image_bank(spec: BankSpec, arrays: dict, alphabet: np.ndarray, alphabet_names: tuple[str, ...]) -> Bank:
    """Returns the bank of stored images (C, E, ...) with `exemplars` and `augment` applied."""
    ((name, stored),) = arrays.items()
    if spec.exemplars == "single":
        stored = np.ascontiguousarray(stored[:, :1])
    if spec.exemplars == "separated":
        alphabet = np.repeat(alphabet, stored.shape[1])
        stored = stored.reshape(-1, 1, stored.shape[2])
    num_transforms = images.NUM_TRANSFORMS if spec.augment else 1
    return make_bank(
        spec,
        "image",
        (spec.image_size, spec.image_size, 1),
        (stored.shape[0] * num_transforms, stored.shape[1]),
        {name: stored},
        groups=np.repeat(alphabet, num_transforms),
        group_names=alphabet_names,
    )


def load_gaussian(spec: BankSpec) -> Bank:
    """Returns the means of Gaussian clusters, drawn from the seed."""
    count = _num_classes(spec)
    means = vectors.gaussian_means(count, spec.dim, spec.seed)
    return make_bank(spec, "vector", (spec.dim,), (count, 1), {"means": means})


def load_symbols(spec: BankSpec) -> Bank:
    """Returns integers."""
    return make_bank(spec, "symbol", (), (_num_classes(spec), 1), {})


def load_embeddings(spec: BankSpec) -> Bank:
    """Returns the vectors of a file, with what it records of the run they come from."""
    loaded = vectors.load_embeddings(spec)
    num_classes, num_exemplars, dim = loaded.embeddings.shape
    num_groups = 1 if loaded.groups is None else int(loaded.groups.max()) + 1
    return make_bank(
        spec,
        "vector",
        (dim,),
        (num_classes, num_exemplars),
        {"embeddings": loaded.embeddings},
        groups=loaded.groups,
        group_names=("all",) if num_groups == 1 else tuple(f"group_{i}" for i in range(num_groups)),
        class_order=loaded.class_order,
        num_holdout=loaded.num_holdout,
        origin=loaded.origin,
    )


def render(
    bank_spec: BankSpec,
    arrays: Mapping[str, jax.Array | np.ndarray],
    classes: Int[Array, "*b n"],
    exemplars: Int[Array, "*b n"],
    keys: UInt32[Array, "*b 2"],
    noise_scale: Num[ArrayLike, ""],
    *,
    random_image: Bool[Array, "*b n"] | None = None,
    noise: bool = False,
    fresh: bool = True,
) -> Num[Array, "..."]:
    """Returns items (..., n, *item_shape): float32, images in [0, 1], or int32 class ids for symbols.

    classes, exemplars: int32 (..., n) bank class and exemplar; a class -1 - way is fresh (gaussian bank).
    keys: uint32 (..., 2) key data of each sequence. noise_scale: scalar (hyper, may be traced).
    random_image: bool (..., n), True where a random binary image, constant for a class within its
      sequence, is shown instead of the class's drawing.
    noise: add N(0, noise_scale^2) to images and embeddings. The gaussian bank always has its own noise.
    fresh: whether the program can meet fresh classes.

    Raises:
      ValueError: an option that the bank's items cannot have.
    """
    bank = find("bank", bank_spec.name)
    if bank.item_kind != "image" and random_image is not None:
        raise ValueError(f"task.random_rare needs images, bank {bank_spec.name!r} has none; set it to False")
    if bank.item_kind == "symbol":
        if noise:
            raise ValueError(f"task.pixel_noise: bank {bank.name!r} has nothing to add noise to; set it to False")
        return classes.astype(jnp.int32)
    arrays = {name: jnp.asarray(array) for name, array in arrays.items()}
    lead, n = classes.shape[:-1], classes.shape[-1]
    rows = lambda x: x.reshape(-1, x.shape[-1])
    classes, exemplars, keys = rows(classes), rows(exemplars), rows(keys)
    random_image = None if random_image is None else rows(random_image)
    items = load(bank.render)(
        bank_spec,
        arrays,
        classes,
        exemplars,
        keys,
        noise_scale,
        random_image=random_image,
        noise=noise,
        fresh=fresh,
    )
    return items.reshape(*lead, n, *items.shape[2:])


def describe_banks() -> list[tuple[str, bool, str]]:
    """Returns (name, available, detail) of every bank."""
    return [(name, *_availability(bank)) for name, bank in components("bank").items()]


def _availability(bank: BankComponent) -> tuple[bool, str]:
    if not bank.find:
        return True, bank.detail
    try:
        found = load(bank.find)(BankSpec(name=bank.name))
    except ValueError as error:
        return False, str(error).removeprefix(f"bank {bank.name!r}: ")
    return True, f"{bank.detail}, in {found.data_dir}"


def prepare_bank(name: str, data_dir: str = "") -> str:
    """Makes the data of a bank that needs some; returns what was done, to print.

    Raises:
      ValueError: unknown bank, or what preparing needs and is not there.
    """
    prepare = find("bank", name).prepare
    return f"{name} is ready in {load(prepare)(data_dir)}" if prepare else f"bank {name!r} needs no preparation"
