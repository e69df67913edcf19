"""Images: area resampling, storage in bits or bytes, flips and rotations, rendering on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float32, Int, Num, UInt8, UInt32

from icl_jax.data.vectors import first_occurrence, sequence_normals
from icl_jax.spec import BankSpec

NUM_TRANSFORMS = 8


def area_weights(size_in: int, size_out: int) -> Float32[np.ndarray, "{size_out} {size_in}"]:
    """Returns the box filter (size_out, size_in), float32, as whole numbers: rows sum to size_in.

    Entry (i, j) is the overlap of output pixel i with input pixel j in units of 1 / size_out of the
    latter, so that sums over whole-numbered images are exact whatever their order.
    """
    low_out, low_in = np.arange(size_out)[:, None] * size_in, np.arange(size_in)[None, :] * size_out
    overlap = np.minimum(low_out + size_in, low_in + size_out) - np.maximum(low_out, low_in)
    return np.maximum(overlap, 0).astype(np.float32)


def area_resample(images: Num[np.ndarray, "N S S"], size: int) -> Float32[np.ndarray, "N {size} {size}"]:
    """Returns images (N, size, size), each pixel the mean of (N, S, S) over its area; float32."""
    weights = area_weights(images.shape[-1], size)
    sums = weights @ images.astype(np.float32) @ weights.T
    return sums / np.float32(images.shape[-1] ** 2)


def store(images: UInt8[np.ndarray, "C E S S"]) -> dict[str, UInt8[np.ndarray, "C E bytes"]]:
    """Returns images (C, E, S, S) uint8, 255 = ink, in their smallest form.

    {"bits": (C, E, ceil(S S / 8))}, 8 pixels a byte, where no pixel is grey; else {"pixels": (C, E, S S)}.
    """
    flat = images.reshape(*images.shape[:2], -1)
    if ((flat == 0) | (flat == 255)).all():
        return {"bits": np.packbits(flat > 0, axis=-1)}
    return {"pixels": flat}


def unpack_bits(packed: UInt8[Array, "N B"], count: int) -> UInt8[Array, "N {count}"]:
    """Returns the first `count` bits (N, count) of bytes (N, B), the highest bit first, as uint8 0 or 1."""
    shifts = jnp.arange(7, -1, -1, dtype=jnp.uint8).reshape(1, 1, 8)
    return ((packed[:, :, None] >> shifts) & 1).reshape(packed.shape[0], -1)[:, :count]


def transform(images: Num[Array, "N S S"], which: Int[Array, "N"]) -> Num[Array, "N S S"]:
    """Returns images (N, S, S) flipped and rotated by which (N,) = 4 * flip + turns, in [0, 8).

    A flip is left-right and comes first; turns are by 90 degrees counter-clockwise (as np.rot90).
    """
    flip, half_turn, quarter_turn = (((which >> bit) & 1)[:, None, None] == 1 for bit in (2, 1, 0))
    images = jnp.where(flip, images[:, :, ::-1], images)
    images = jnp.where(half_turn, images[:, ::-1, ::-1], images)
    return jnp.where(quarter_turn, images.swapaxes(1, 2)[:, ::-1, :], images)


def render_images(
    spec: BankSpec,
    arrays: dict[str, jax.Array],
    classes: Int[Array, "B n"],
    exemplars: Int[Array, "B n"],
    keys: UInt32[Array, "B 2"],
    noise_scale: Num[ArrayLike, ""],
    *,
    random_image: Bool[Array, "B n"] | None,
    noise: bool,
    **unused,
) -> Float32[Array, "B n S S 1"]:
    """Returns images (B, n, S, S, 1) float32; arguments as in `banks.render` with one leading axis B."""
    size = spec.image_size
    ink = _gather(spec, arrays, classes.reshape(-1), exemplars.reshape(-1))
    items = (ink if spec.ink == 1 else 1 - ink).reshape(*classes.shape, size, size, 1)
    draws = int(noise) + int(random_image is not None)
    if not draws:
        return items
    normals = sequence_normals(keys, (draws, *items.shape[1:]))
    if random_image is not None:
        images = (normals[:, -1] > 0).astype(jnp.float32)
        images = jax.vmap(lambda images, first: images[first])(images, first_occurrence(classes))
        items = jnp.where(random_image[:, :, None, None, None], images, items)
    return items + noise_scale * normals[:, 0] if noise else items


def _gather(spec: BankSpec, arrays: dict, classes: jax.Array, exemplars: jax.Array) -> jax.Array:
    """Returns the ink (N, S, S) in [0, 1] of stored drawings, float32."""
    base, which = (classes // NUM_TRANSFORMS, classes % NUM_TRANSFORMS) if spec.augment else (classes, None)
    size = spec.image_size
    if "bits" in arrays:
        return _gather_bits(arrays["bits"], base, exemplars, which, size).astype(jnp.float32)
    pixels = arrays["pixels"].at[base, exemplars].get(mode="clip").reshape(-1, size, size)
    return (pixels if which is None else transform(pixels, which)).astype(jnp.float32) / 255


def _gather_bits(bits: jax.Array, base: jax.Array, exemplars: jax.Array, which, size: int) -> jax.Array:
    """Returns drawings (N, S, S) of packed `bits`, uint8 0 or 1; which: (N,) transforms or None."""
    gather = lambda bits, base, exemplars: bits.at[base, exemplars].get(mode="clip")
    unpack = lambda packed: unpack_bits(packed, size**2).reshape(-1, size, size)
    if which is None:
        return unpack(gather(bits, base, exemplars))
    moved = lambda bits, base, exemplars, which: transform(unpack(gather(bits, base, exemplars)), which)

    def looked_up(bits, base, exemplars, which):
        pixels = source_pixels(which, size)
        packed = bits.at[base[:, None, None], exemplars[:, None, None], pixels >> 3].get(mode="clip")
        return (packed >> (7 - (pixels & 7)).astype(jnp.uint8)) & 1

    # looking up every pixel is 5 times faster on CPU at 105 pixels, but TPUs are slow at small gathers
    return jax.lax.platform_dependent(bits, base, exemplars, which, tpu=moved, default=looked_up)


def source_pixels(which: Int[Array, "N"], size: int) -> Int[Array, "N {size} {size}"]:
    """Returns where each pixel of transformed images (N, S, S) was before: row * size + column, int32."""
    grid = np.arange(size**2, dtype=np.int32).reshape(size, size)
    grids = [np.rot90(grid[:, ::-1] if t // 4 else grid, t % 4) for t in range(NUM_TRANSFORMS)]
    corners_and_steps = np.array([[g[0, 0], g[1, 0] - g[0, 0], g[0, 1] - g[0, 0]] for g in grids])
    corner, down, right = jnp.asarray(corners_and_steps)[which].T[:, :, None, None]
    index = jnp.arange(size)
    return corner + down * index[None, :, None] + right * index[None, None, :]
