"""Procedural handwriting: made-up characters, each drawn once by every hand. Needs no download.

It stands in for Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): by default as many characters and
hands, a like amount of ink, and a like nearest-neighbour difficulty.
"""

from typing import NamedTuple

import numpy as np

from icl_jax.data.strokes import MAX_STROKES, POINTS, draw_alphabet, draw_characters

DEFAULT_CLASSES, DEFAULT_HANDS = 1623, 20  # as in Omniglot
MIN_SIZE = 8  # pixels; below this characters cannot be told apart
HAND_STREAM, DRAWING_STREAM = 2, 3
EXTENT = 0.72  # side of an average character's box, as a share of the image's side
PEN_RADIUS = 0.0255  # as a share of the image's side, which gives nearly Omniglot's amount of ink
PEN_RANGE = 0.2  # the log of a hand's pen radius to the usual one is at most this
MODES = 5  # of a stroke's wobble along its length
GLOBAL_DRAWS = 18  # normal draws per drawing for the whole character
STROKE_DRAWS = 7 + 2 * MODES  # and per stroke
CANVAS = 100  # drawn at this many pixels a side or more, then averaged down
SPACING = 1.5  # canvas pixels between stamps of the pen, which is at least 2 in radius there
DRAWINGS_AT_ONCE = 320  # bounds memory: at 112 x 112 pixels the canvases are 4 MB


class Glyphs(NamedTuple):
    """images: uint8 (num_classes, num_hands, image_size, image_size), 255 full ink, 0 paper.

    alphabet: int32 (num_classes,), ascending: alphabets are runs of 14 to 55 classes (the last one may
    be cut short).
    """

    images: np.ndarray
    alphabet: np.ndarray


class Hands(NamedTuple):
    """How each person writes, one number per hand: arrays (num_hands,)."""

    slant: np.ndarray  # shear
    size: np.ndarray
    aspect: np.ndarray  # log of width / height
    pen: np.ndarray  # radius, share of the image's side
    mess: np.ndarray  # factor on all variation between this hand's drawings
    rounding: np.ndarray  # 0: sharp corners .. 1: round
    tremor: np.ndarray  # factor on the wobble of strokes


def draw_glyphs(num_classes: int, num_hands: int, image_size: int, seed: int) -> Glyphs:
    """Returns the drawings of `num_classes` characters by `num_hands` hands.

    The drawing of class k by hand h is a function of (seed, k, h) and the size alone; a hand is one
    person for all classes.

    Raises:
      ValueError: a count below 1, a negative seed, or image_size below 8.
    """
    _check(num_classes, num_hands, image_size, seed)
    characters, alphabet = _characters(num_classes, seed)
    hands = _draw_hands(num_hands, seed)
    images = np.empty((num_classes, num_hands, image_size, image_size), np.uint8)
    at_once = max(1, DRAWINGS_AT_ONCE // num_hands)
    for start in range(0, num_classes, at_once):
        classes = range(start, min(start + at_once, num_classes))
        skeletons, real = _stack([characters[k] for k in classes])
        paths = _write(skeletons, real, hands, _draws(seed, classes, num_hands))
        images[start : classes.stop] = _rasterise(paths, real, hands.pen, image_size)
    return Glyphs(images, alphabet)


def _check(num_classes: int, num_hands: int, image_size: int, seed: int) -> None:
    for name, value, least in (
        ("num_classes", num_classes, 1),
        ("num_hands", num_hands, 1),
        ("image_size", image_size, MIN_SIZE),
        ("seed", seed, 0),
    ):
        if value < least:
            raise ValueError(f"glyphs: {name} {value} < {least}; raise {name} to at least {least}")


def _characters(num_classes: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Skeletons of all classes and the alphabet of each."""
    characters: list[np.ndarray] = []
    alphabet: list[int] = []
    index = 0
    while len(characters) < num_classes:
        count = min(draw_alphabet(seed, index).size, num_classes - len(characters))
        characters += draw_characters(seed, index, count)
        alphabet += [index] * count
        index += 1
    return characters, np.array(alphabet, np.int32)


def _draw_hands(num_hands: int, seed: int) -> Hands:
    # A generator fills row by row, so further hands leave the first ones' numbers as they are.
    draws = np.random.default_rng([seed, HAND_STREAM]).standard_normal((num_hands, 7))
    slant, size, aspect, pen, mess, rounding, tremor = draws.T
    return Hands(
        slant=0.06 + 0.10 * slant,
        size=np.exp(0.08 * size),
        aspect=0.06 * aspect,
        pen=PEN_RADIUS * np.exp(np.clip(0.08 * pen, -PEN_RANGE, PEN_RANGE)),
        mess=np.exp(np.clip(0.25 * mess, -0.5, 0.5)),
        rounding=1 / (1 + np.exp(-1.5 * rounding)),
        tremor=np.exp(np.clip(0.4 * tremor, -0.8, 0.8)),
    )


def _draws(seed: int, classes: range, num_hands: int) -> np.ndarray:
    """Standard normals of each drawing, (classes, hands, draws)."""
    shape = (num_hands, GLOBAL_DRAWS + MAX_STROKES * STROKE_DRAWS)
    generators = [np.random.default_rng([seed, DRAWING_STREAM, k]) for k in classes]
    return np.stack([generator.standard_normal(shape) for generator in generators])  # row by row, as above


def _stack(characters: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Skeletons (classes, MAX_STROKES, POINTS, 2) and which strokes exist (classes, MAX_STROKES)."""
    real = np.array([[s < len(c) for s in range(MAX_STROKES)] for c in characters])
    skeletons = np.zeros((len(characters), MAX_STROKES, POINTS, 2))
    for k, character in enumerate(characters):
        skeletons[k, : len(character)] = character
    return skeletons, real


def _write(skeletons: np.ndarray, real: np.ndarray, hands: Hands, draws: np.ndarray) -> np.ndarray:
    """Paths of the pen, (classes, hands, MAX_STROKES, POINTS, 2), in shares of the image's side."""
    whole, each = draws[..., :GLOBAL_DRAWS], draws[..., GLOBAL_DRAWS:]
    each = each.reshape(*draws.shape[:2], MAX_STROKES, STROKE_DRAWS)
    mess = hands.mess[:, None]
    paths = _vary_strokes(skeletons[:, None], each * mess[..., None], hands)
    paths = _bend(paths, whole[..., :12] * mess)
    paths = _transform(paths, whole[..., 12:16] * mess, hands)
    return _place(paths, real, whole[..., 16:18])


def _vary_strokes(strokes: np.ndarray, draws: np.ndarray, hands: Hands) -> np.ndarray:
    """Each stroke starts and ends elsewhere, is moved, turned, stretched, rounded and wobbles."""
    shift, turn, stretch, ends, wobble = np.split(draws, [2, 3, 5, 7], axis=-1)
    strokes = _round_corners(_move_ends(strokes, 0.03 * ends), hands.rounding)
    middle = strokes.mean(-2, keepdims=True)
    reach = np.linalg.norm(strokes - middle, axis=-1).mean(-1)[..., None, None]
    local = _rotate((strokes - middle) * np.exp(0.08 * stretch)[..., None, :], 0.08 * turn)
    t = np.linspace(0, 1, POINTS)
    modes = np.cos(np.pi * np.arange(1, MODES + 1)[:, None] * t) / np.arange(1, MODES + 1)[:, None]
    wobble = wobble.reshape(*wobble.shape[:-1], 2, MODES) @ modes
    wobble = np.moveaxis(wobble, -2, -1) * hands.tremor[:, None, None, None]
    return middle + local + reach * 0.07 * wobble + 0.045 * shift[..., None, :]


def _move_ends(strokes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Begins and ends strokes early or late by `ends` (..., 2), shares of their length; straight on."""
    t = np.linspace(0, 1, POINTS)
    at = (ends[..., :1] * (1 - t) + (1 + ends[..., 1:]) * t) * (POINTS - 1)
    left = np.clip(np.floor(at), 0, POINTS - 2).astype(int)
    strokes = np.broadcast_to(strokes, (*at.shape, 2))
    here = np.take_along_axis(strokes, left[..., None], -2)
    there = np.take_along_axis(strokes, left[..., None] + 1, -2)
    return here + (at - left)[..., None] * (there - here)


def _round_corners(strokes: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Replaces points by a mean over up to four neighbours on either side, in part."""
    gap = np.abs(np.arange(POINTS)[:, None] - np.arange(POINTS))
    reach = np.minimum(np.arange(POINTS), POINTS - 1 - np.arange(POINTS))[:, None]
    mean = np.where(gap <= np.minimum(reach, 4), 1.0, 0.0)  # narrower near the ends, which stay in place
    smooth = (mean / mean.sum(1, keepdims=True)) @ strokes
    amount = rounding[:, None, None, None]
    return (1 - amount) * strokes + amount * smooth


def _rotate(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turns points (..., n, 2) by angles (..., 1)."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _bend(paths: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """A smooth warp of the page: proportions change, strokes that touch still do."""
    x, y = np.clip(paths[..., 0], -1.3, 1.3), np.clip(paths[..., 1], -1.3, 1.3)
    field = np.stack([x * y, x * x, y * y, np.sin(2.5 * x), np.sin(2.5 * y), np.cos(2.5 * x) * y], -1)
    coefficients = 0.05 * draws.reshape(*draws.shape[:2], 1, 6, 2)
    return paths + field @ coefficients


def _transform(paths: np.ndarray, draws: np.ndarray, hands: Hands) -> np.ndarray:
    """Size, aspect, slant and rotation: the hand's own and the drawing's."""
    size, aspect, slant, turn = (draws[..., i, None] for i in range(4))
    scale = EXTENT / 2 * hands.size[:, None] * np.exp(0.05 * size)
    half = (hands.aspect[:, None] + 0.06 * aspect) / 2
    shear = hands.slant[:, None] + 0.05 * slant
    x, y = paths[..., 0], paths[..., 1]
    x = scale[..., None] * (x * np.exp(half)[..., None] - y * shear[..., None])
    y = scale[..., None] * (y * np.exp(-half)[..., None])
    return _rotate(np.stack([x, y], -1), 0.06 * turn[..., None])


def _place(paths: np.ndarray, real: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Puts drawings near the middle of the image and wholly on it."""
    shown = real[:, None, :, None, None]
    low = np.where(shown, paths, np.inf).min((2, 3), keepdims=True)
    high = np.where(shown, paths, -np.inf).max((2, 3), keepdims=True)
    room = 1 - 4 * PEN_RADIUS
    shrink = np.minimum(1, room / np.max(high - low, -1, keepdims=True))
    half = shrink * (high - low) / 2
    centre = np.clip(0.5 + 0.045 * draws[:, :, None, None], 0.5 - room / 2 + half, 0.5 + room / 2 - half)
    return (paths - (low + high) / 2) * shrink + centre


def _rasterise(paths: np.ndarray, real: np.ndarray, pen: np.ndarray, image_size: int) -> np.ndarray:
    """Images (classes, hands, image_size, image_size) of the pen's paths.

    A round pen is stamped along the paths on a larger canvas, whose pixels are then averaged.
    """
    num_classes, num_hands = paths.shape[:2]
    fine = max(2, -(-CANVAS // image_size))
    side = fine * image_size
    classes, hands, strokes = np.nonzero(np.broadcast_to(real[:, None], paths.shape[:3]))
    points, owner = _along(paths[classes, hands, strokes] * side)
    drawing = (classes * num_hands + hands)[owner]
    radius = (pen * side)[hands][owner]
    canvas = np.zeros(num_classes * num_hands * side * side, np.uint8)  # 1 where there is ink
    origin = drawing * side * side
    for offset in _pen_grid(PEN_RADIUS * np.exp(PEN_RANGE) * side):  # dense enough for the widest pen
        x, y = (np.clip((points[i] + radius * offset[i]).astype(np.int64), 0, side - 1) for i in (0, 1))
        canvas[origin + y * side + x] = 1
    rows = canvas.reshape(num_classes, num_hands, image_size, fine, side).sum(3, dtype=np.uint8)
    ink = sum(rows[..., i::fine].astype(np.uint16) for i in range(fine))
    return ((np.asarray(ink).astype(np.uint32) * 255 + fine * fine // 2) // (fine * fine)).astype(np.uint8)


def _along(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points at most SPACING canvas pixels apart on paths (n, POINTS, 2): (2, points) and their path."""
    start, step = paths[:, :-1].reshape(-1, 2), np.diff(paths, axis=1).reshape(-1, 2)
    count = np.ceil(np.linalg.norm(step, axis=1) / SPACING).astype(int)
    count = np.maximum(count, 1)
    segment = np.repeat(np.arange(len(count)), count)
    share = (np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)) / count[segment]
    return (start[segment] + share[:, None] * step[segment]).T, segment // (POINTS - 1)


def _pen_grid(radius: float) -> np.ndarray:
    """Offsets that fill the unit disc densely enough for a pen of `radius` canvas pixels."""
    rings = max(1, int(np.ceil((radius - 0.5) / 0.9)))
    offsets = [np.zeros((1, 2))]
    for ring in range(1, rings + 1):
        angle = 2 * np.pi * np.arange(6 * ring) / (6 * ring)
        reach = (1 - 0.5 / max(radius, 1.0)) * ring / rings
        offsets.append(reach * np.stack([np.cos(angle), np.sin(angle)], -1))
    return np.concatenate(offsets)
