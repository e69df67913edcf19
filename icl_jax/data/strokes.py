"""Made-up characters: the skeletons that the hands of the glyphs bank draw.

An alphabet is a style and a small inventory of strokes. A character is one to four strokes of the
inventory (turned, mirrored, stretched), each joined to, crossing or standing beside the strokes before
it. Coordinates: x to the right, y down, the character within [-1, 1] x [-1, 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

POINTS = 32  # points of a stroke, equally spaced along it
MAX_STROKES = 4
MIN_ALPHABET, MAX_ALPHABET = 14, 55  # characters in an alphabet, as in Omniglot
ALPHABET_STREAM, CHARACTER_STREAM = 0, 1
CANDIDATES = 10  # how often a character is redrawn when it resembles an earlier one of its alphabet
MAX_RESEMBLANCE = 0.80  # cosine of two characters' ink maps above which they count as alike
PEN_WIDTH = 0.15  # of a usual pen, in the character's coordinates
MIN_LENGTH = 2.2  # of a character's strokes together
MAX_CROWDING = 0.3  # share of a character's ink that may touch or nearly touch other parts of it


class Alphabet(NamedTuple):
    """size: characters; strokes: its inventory, each (POINTS, 2); the rest are the style's rates."""

    size: int
    strokes: list[np.ndarray]
    num_strokes: np.ndarray  # probability of 1, 2, ... MAX_STROKES strokes
    rates: np.ndarray  # probability of each way to place a further stroke, in the order of PLACEMENTS
    squeeze: float  # width / height of its characters
    tilt: float  # radians
    scale: float  # size of its characters, the largest 1
    turned: float  # rate of strokes on their side or head


# Stroke families: each returns the corners or samples of one path, about one unit across.


def _turn(start: float, sweep: float, width: float = 1.0, height: float = 1.0) -> np.ndarray:
    """Elliptic arc around the origin; angles in turns, from the right, clockwise on the page."""
    angle = 2 * np.pi * (start + np.linspace(0, sweep, 40))
    return np.stack([width * np.cos(angle), height * np.sin(angle)], -1)


def _bent(rng):
    return np.array([[0, -1], [rng.uniform(-0.2, 0.2), 0.8], [rng.uniform(0.6, 1.3), rng.uniform(0.2, 1.0)]])


def _vee(rng):
    width = rng.uniform(0.4, 0.9)
    return np.array([[-width, -1], [rng.uniform(-0.3, 0.3), 0.8], [width, -1]])


def _zigzag(rng):
    width, rise = rng.uniform(0.4, 0.8), rng.uniform(-0.3, 0.5)
    return np.array([[-width, -0.9], [width, -0.9 + rise], [-width, 0.9 - rise], [width, 0.9]])


def _bracket(rng):
    width = rng.uniform(0.3, 0.8)
    return np.array([[width, -1], [-width, -1], [-width, 1], [width * rng.uniform(0.3, 1), 1]])


def _polygon(rng):
    if rng.random() < 0.5:
        return np.array([[0, -1], [-0.8, 0.8], [0.8, 0.8], [0, -1]])
    width = rng.uniform(0.5, 0.9)
    return np.array([[-width, -0.8], [-width, 0.8], [width, 0.8], [width, -0.8], [-width, -0.8]])


def _arc(rng):
    return _turn(0.25, rng.uniform(0.3, 0.75), rng.uniform(0.5, 1.0), 1.0)


def _ring(rng):
    start, sweep = rng.uniform(0.5, 0.9), rng.uniform(0.93, 1.03)
    return _turn(start, sweep, rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.8))


def _hook(rng):
    radius = rng.uniform(0.25, 0.55)
    curl = _turn(0.5, -rng.uniform(0.3, 0.6), radius, radius) + [radius, 1 - radius]
    return np.concatenate([[[0, -1]], curl])


def _wave(rng):
    t = np.linspace(-1, 1, 40)
    width, cycles = rng.uniform(0.3, 0.6), rng.choice([1.0, 1.0, 1.5, 2.0])
    return np.stack([width * np.sin(np.pi * cycles * (t + 1)), t], -1)


def _humps(rng):
    count = rng.choice([1, 1, 2])
    width, start = rng.uniform(0.35, 0.6), rng.uniform(-0.6, 0.2)
    arches = [_turn(0.5, 0.5, width, 0.7) + [width * (2 * i + 1), start] for i in range(count)]
    return np.concatenate([[[0, 1]], *arches, [[2 * width * count, rng.uniform(0.3, 1)]]])


def _spiral(rng):
    t = np.linspace(0, 1, 60)
    angle = 2 * np.pi * (rng.uniform(0, 1) + rng.uniform(1.1, 1.7) * t)
    radius = 1 - rng.uniform(0.6, 0.85) * t
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1) * [rng.uniform(0.6, 0.9), 0.9]


def _loop(rng):
    t = np.linspace(-1, 1, 60)
    size = rng.uniform(0.35, 0.6)
    angle = np.pi * t * rng.uniform(1.0, 1.35)
    lift = size * rng.uniform(-0.4, 0.4)
    return np.stack([-size * np.sin(angle), 0.9 * t + lift * (1 - np.cos(angle))], -1)


def _ring_tail(rng):
    width, height = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.55)
    ring = _turn(0.0, -1.0, width, height) + [0, height - 1]
    return np.concatenate([ring, [[width, 0.7], [width - rng.uniform(0, 0.7), 1.0]]])


ANGULAR = (_bent, _vee, _zigzag, _bracket, _polygon)
CURVED = (_arc, _ring, _hook, _wave, _humps, _spiral, _loop, _ring_tail)


def _resample(path: np.ndarray) -> np.ndarray:
    """POINTS points equally spaced along a path, (m, 2) -> (POINTS, 2)."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.linspace(0, length[-1], POINTS)
    return np.stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])], -1)


def _orient(stroke: np.ndarray, turned: float, rng: np.random.Generator) -> np.ndarray:
    """One of the eight symmetries of the square; at rate `turned` not the upright two."""
    turns = rng.integers(1, 4) if rng.random() < turned else 0
    for _ in range(turns):
        stroke = np.stack([-stroke[:, 1], stroke[:, 0]], -1)
    return stroke * [-1 if rng.random() < 0.5 else 1, 1]


def draw_alphabet(seed: int, alphabet: int) -> Alphabet:
    """Style and stroke inventory of one alphabet, a function of (seed, alphabet)."""
    rng = np.random.default_rng([seed, ALPHABET_STREAM, alphabet])
    size = int(rng.integers(MIN_ALPHABET, MAX_ALPHABET + 1))
    curviness, turned = rng.beta(0.8, 0.6), rng.uniform(0.2, 0.7)
    families: list[Callable] = []
    for _ in range(rng.integers(5, 9)):
        pool = CURVED if rng.random() < curviness else ANGULAR
        families.append(pool[rng.integers(len(pool))])
    strokes = [_orient(_resample(np.asarray(family(rng), float)), turned, rng) for family in families]
    busy = rng.uniform(0.7, 1.6)
    weights = np.array([0.6, 1.6 * busy, 1.6 * busy**2, 0.7 * busy**3])
    rates = rng.dirichlet(3.0 * np.array([4.0, 1.5, 0.8, 1.0, 0.6]))
    squeeze, tilt = rng.uniform(0.75, 1.15), rng.normal(0, 0.06)
    scale = rng.uniform(0.8, 1.0)
    return Alphabet(size, strokes, weights / weights.sum(), rates, squeeze, tilt, scale, turned)


# Placements of a further stroke: each returns it moved to where it belongs.


def _join(stroke, before, rng):
    """An end of the stroke touches an end or the middle of an earlier one."""
    target = before[rng.integers(len(before))][rng.choice([0, POINTS // 2, POINTS - 1])]
    return stroke - stroke[rng.choice([0, -1])] + target


def _cross(stroke, before, rng):
    """The middles of the stroke and of an earlier one cross."""
    target = before[rng.integers(len(before))][rng.integers(POINTS // 5, POINTS - POINTS // 5)]
    return stroke - stroke[POINTS // 2] + target


def _beside(stroke, before, rng):
    """The stroke stands right of, left of, below or above everything before it."""
    low, high = np.min([b.min(0) for b in before], 0), np.max([b.max(0) for b in before], 0)
    axis, side = rng.choice([0, 0, 1]), rng.choice([0, 1])
    stroke = stroke - (stroke.min(0) + stroke.max(0)) / 2 + (low + high) / 2
    gap = rng.uniform(0.12, 0.35)
    edge = high[axis] + gap - stroke[:, axis].min() if side else low[axis] - gap - stroke[:, axis].max()
    stroke[:, axis] += edge
    return stroke


def _mirror(stroke, before, rng):
    """The last stroke again, mirrored at its own side or repeated next to itself."""
    last = before[-1]
    if rng.random() < 0.6:
        axis = rng.choice([0, 0, 1])
        edge = last[:, axis].max() + rng.choice([0.0, 0.15])
        flipped = last.copy()
        flipped[:, axis] = 2 * edge - last[:, axis]
        return flipped
    width, height = np.ptp(last, 0)
    return last + ([width * 0.2 + 0.35, 0] if width < height else [0, height * 0.2 + 0.35])


def _dot(stroke, before, rng):
    """A dot above, below or inside what was written."""
    points = np.concatenate(before)
    low, high = points.min(0), points.max(0)
    spots = np.array([[0.5, -0.25], [0.5, 1.25], [0.5, 0.5], [1.2, 0.5], [1.15, -0.1]])
    spots = low + spots * (high - low) + rng.normal(0, 0.05, (5, 2))
    clear = np.linalg.norm(points - spots[:, None], axis=-1).min(1) > 0.2
    spot = spots[rng.choice(np.flatnonzero(clear))] if clear.any() else high + [0.2, 0]
    return spot + np.linspace(-1, 1, POINTS)[:, None] * [0.04, 0.03]


PLACEMENTS = (_join, _cross, _beside, _mirror, _dot)


def _compose(alphabet: Alphabet, rng: np.random.Generator) -> list[np.ndarray]:
    """One character of an alphabet, before its size is set."""
    count = 1 + rng.choice(MAX_STROKES, p=alphabet.num_strokes)
    # A lone stroke must carry the character, so it is rarely a mere line.
    strokes = [_pick(alphabet, 0.05 if count == 1 else 0.3, rng) * rng.uniform(0.8, 1.1, 2)]
    for _ in range(count - 1):
        stroke = _pick(alphabet, 0.4, rng) * rng.uniform(0.45, 0.95) * rng.uniform(0.85, 1.15, 2)
        place = PLACEMENTS[rng.choice(len(PLACEMENTS), p=alphabet.rates)]
        strokes.append(place(stroke, strokes, rng))
    return strokes


def _pick(alphabet: Alphabet, line_rate: float, rng: np.random.Generator) -> np.ndarray:
    """A stroke of the inventory; at rate `line_rate` a line, its slope in steps of 45 degrees."""
    if rng.random() < line_rate:
        slope = np.pi / 4 * rng.choice(4, p=[0.4, 0.15, 0.3, 0.15])
        return np.linspace(-1, 1, POINTS)[:, None] * [np.sin(slope), np.cos(slope)]
    return _orient(alphabet.strokes[rng.integers(len(alphabet.strokes))], alphabet.turned, rng)


def _set_size(strokes: np.ndarray, alphabet: Alphabet, rng: np.random.Generator) -> np.ndarray:
    """Tilts, squeezes, centres and scales a character, (strokes, POINTS, 2), to its place in the square."""
    cos, sin = np.cos(alphabet.tilt), np.sin(alphabet.tilt)
    strokes = strokes @ np.array([[cos, sin], [-sin, cos]]) * [alphabet.squeeze, 1]
    low, high = strokes.min((0, 1)), strokes.max((0, 1))
    scale = 2 * alphabet.scale * rng.uniform(0.85, 1.0) / max(np.max(high - low), 1.2)
    return (strokes - (low + high) / 2) * scale


def _ink_map(strokes: np.ndarray) -> np.ndarray:
    """Unit-length coarse map of where the ink is, for comparing characters."""
    segments = np.linalg.norm(np.diff(strokes, axis=1), axis=-1).reshape(-1)
    middles = ((strokes[:, 1:] + strokes[:, :-1]) / 2).reshape(-1, 2)
    grid = np.linspace(-1, 1, 9)
    near = np.exp(-(((middles[:, :, None] - grid) / 0.25) ** 2))
    ink = ((near[:, 1] * segments[:, None]).T @ near[:, 0]).reshape(-1)
    return ink / np.linalg.norm(ink)


def _crowding(strokes: np.ndarray) -> float:
    """Share of a character's ink that lies within a pen's width of another part of it."""
    points = strokes[:, ::2].reshape(-1, 2)
    step = np.linalg.norm(np.diff(strokes, axis=1), axis=-1).mean(1).repeat(POINTS // 2)
    order, stroke = np.arange(len(points)), np.arange(len(points)) // (POINTS // 2)
    apart = 2 * np.abs(order[:, None] - order) * step > 3 * PEN_WIDTH
    apart |= stroke[:, None] != stroke
    x, y = points.T
    near = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < PEN_WIDTH**2
    return float(((near & apart).any(1) * step).sum() / step.sum())


def _fault(draft: np.ndarray, alike: float, limit: float) -> float:
    """How far a draft fails the three limits, 1: just; only whether it is below `limit` is sure."""
    length = np.linalg.norm(np.diff(draft, axis=1), axis=-1).sum()
    fault = max(alike / MAX_RESEMBLANCE, MIN_LENGTH / length)
    return fault if fault >= limit else max(fault, _crowding(draft) / MAX_CROWDING)


def draw_characters(seed: int, alphabet: int, count: int) -> list[np.ndarray]:
    """The first `count` characters of an alphabet, each (strokes, POINTS, 2).

    Of up to CANDIDATES drafts the first that is neither scant nor crowded nor like an earlier character
    is taken, else the least faulty. A character depends on earlier ones only, not on `count`.
    """
    style = draw_alphabet(seed, alphabet)
    characters, maps = [], np.zeros((0, 81))
    for index in range(count):
        rng = np.random.default_rng([seed, CHARACTER_STREAM, alphabet, index])
        best, best_map, least = None, None, np.inf
        for _ in range(CANDIDATES):
            draft = _set_size(np.stack(_compose(style, rng)), style, rng)
            ink = _ink_map(draft)
            fault = _fault(draft, float((maps @ ink).max(initial=0)), least)
            if fault < least:
                best, best_map, least = draft, ink, fault
            if least < 1:
                break
        characters.append(best)
        maps = np.concatenate([maps, np.asarray(best_map)[None]])
    return characters
