"""Laws of the glyphs bank: same numbers whatever is asked beside them, and classes like Omniglot's."""

import numpy as np
import pytest

from icl_jax.data.glyphs import draw_glyphs
from icl_jax.data.strokes import MAX_ALPHABET, MIN_ALPHABET, draw_alphabet, draw_characters

CLASSES, HANDS, SIZE, SEED = 240, 20, 28, 0
# 20-way 1-shot accuracy of the nearest neighbour in pixels on Omniglot at 14 x 14: 0.31 (chance 0.05).
OMNIGLOT_NEAREST, BAND = 0.31, 0.10
OMNIGLOT_INK = 0.081


@pytest.fixture(scope="module")
def glyphs():
    return draw_glyphs(CLASSES, HANDS, SIZE, SEED)


@pytest.fixture(scope="module")
def small(glyphs):
    """Vectors (classes, hands, 196) of the drawings at 14 x 14, ink 1."""
    halves = glyphs.images.reshape(CLASSES, HANDS, 14, 2, 14, 2).mean((3, 5)) / 255
    return halves.reshape(CLASSES, HANDS, -1)


def nearest_neighbour(vectors: np.ndarray, ways: int, trials: int) -> float:
    """Accuracy of 1-shot classification by the closest support drawing."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(trials):
        classes = rng.choice(len(vectors), ways, replace=False)
        support_hand, query_hand = rng.permuted(np.tile(np.arange(HANDS), (ways, 1)), axis=1)[:, :2].T
        gaps = vectors[classes, support_hand] - vectors[classes[0], query_hand[0]]
        hits += (gaps**2).sum(1).argmin() == 0
    return hits / trials


def test_shapes_and_range(glyphs):
    assert glyphs.images.shape == (CLASSES, HANDS, SIZE, SIZE)
    assert glyphs.images.dtype == np.uint8
    assert glyphs.alphabet.shape == (CLASSES,)
    assert glyphs.alphabet.dtype == np.int32
    assert glyphs.images.max() == 255  # full ink
    assert np.unique(glyphs.images).size > 10  # anti-aliased


def test_no_drawing_is_cut_off():
    images = draw_glyphs(60, HANDS, 64, SEED).images
    assert images[..., [0, -1], :].max() == 0
    assert images[..., [0, -1]].max() == 0


def test_same_seed_same_glyphs_other_seed_others(glyphs):
    again = draw_glyphs(30, HANDS, SIZE, SEED)
    np.testing.assert_array_equal(again.images, glyphs.images[:30])
    other = draw_glyphs(30, HANDS, SIZE, SEED + 1)
    same = (other.images == again.images).all((2, 3))
    assert not same.any()


@pytest.mark.parametrize(("num_classes", "num_hands"), [(1, 1), (7, 3), (50, 33), (3, 400)])
def test_more_classes_or_hands_change_no_drawing(glyphs, num_classes, num_hands):
    part = draw_glyphs(num_classes, num_hands, SIZE, SEED)
    shared = min(num_hands, HANDS)
    np.testing.assert_array_equal(part.images[:, :shared], glyphs.images[:num_classes, :shared])
    np.testing.assert_array_equal(part.alphabet, glyphs.alphabet[:num_classes])


def test_no_two_drawings_are_equal(glyphs):
    flat = glyphs.images.reshape(CLASSES * HANDS, -1)
    assert len(np.unique(flat, axis=0)) == CLASSES * HANDS


def test_alphabets_are_contiguous_and_of_the_drawn_sizes(glyphs):
    steps = np.diff(glyphs.alphabet)
    assert glyphs.alphabet[0] == 0
    assert set(steps) <= {0, 1}
    sizes = np.bincount(glyphs.alphabet)
    expected = [draw_alphabet(SEED, a).size for a in range(len(sizes))]
    assert (sizes[:-1] == expected[:-1]).all()  # the last alphabet is cut short
    assert sizes[-1] <= expected[-1]
    all_sizes = [draw_alphabet(SEED, a).size for a in range(200)]
    assert min(all_sizes) >= MIN_ALPHABET and max(all_sizes) <= MAX_ALPHABET


def test_characters_have_one_to_four_strokes_and_do_not_depend_on_the_count():
    characters = draw_characters(SEED, 1, 14)
    for short, long in zip(draw_characters(SEED, 1, 5), characters, strict=False):
        np.testing.assert_array_equal(short, long)
    counts = {len(c) for a in range(5) for c in draw_characters(SEED, a, 14)}
    assert counts == {1, 2, 3, 4}
    assert all(np.abs(c).max() <= 1 + 1e-9 for c in characters)


def test_drawings_of_a_class_are_closer_than_those_of_others(small):
    """Mean squared distance in a class against that to drawings of other classes.

    The busiest scribbles may miss it narrowly, as in Omniglot, where the mean ratio is 0.77.
    """
    means, within = small.mean(1), 2 * small.var(1, ddof=1).sum(-1)
    power = (small**2).sum(-1).mean(1)
    distances = power[:, None] + power - 2 * means @ means.T
    np.fill_diagonal(distances, 0)
    ratio = within / (distances.sum(1) / (CLASSES - 1))
    assert (ratio < 1).mean() > 0.97
    assert ratio.max() < 1.1
    assert 0.65 < ratio.mean() < 0.85


def test_classes_can_be_told_apart(small):
    """The nearest mean of the other drawings, out of 240 classes (chance 0.004)."""
    means = small[:, :15].mean(1)
    queries = small[:, 15:].reshape(-1, small.shape[-1])
    nearest = ((means**2).sum(-1) - 2 * queries @ means.T).argmin(-1)
    assert (nearest == np.repeat(np.arange(CLASSES), HANDS - 15)).mean() > 0.3


def test_hands_are_persons(small):
    """Relative to its class's mean, a hand's drawings share more ink with each other than chance allows."""
    ink = small.sum(-1)
    relative = np.log(ink) - np.log(ink).mean(1, keepdims=True)
    first, second = relative[::2].mean(0), relative[1::2].mean(0)
    assert np.corrcoef(first, second)[0, 1] > 0.9


def test_ink_is_like_omniglots(glyphs):
    ink = glyphs.images.mean((2, 3)) / 255
    assert ink.mean() == pytest.approx(OMNIGLOT_INK, rel=0.2)
    assert ink.min() > 0.01
    assert ink.max() < 0.25


def test_nearest_neighbour_difficulty_is_like_omniglots(small):
    accuracy = nearest_neighbour(small, ways=20, trials=2000)
    assert abs(accuracy - OMNIGLOT_NEAREST) < BAND


@pytest.mark.parametrize("image_size", [8, 13, 14, 105])
def test_other_sizes_show_the_same_drawings(glyphs, image_size):
    """Ink and its centre agree with the drawing at 28 x 28, to the coarser one's pixels."""
    images = draw_glyphs(6, 4, image_size, SEED).images
    assert images.shape == (6, 4, image_size, image_size)
    for mine, its in zip(centres(images), centres(glyphs.images[:6, :4]), strict=True):
        np.testing.assert_allclose(mine, its, atol=0.02)


def centres(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ink and the x and y of its centre, in shares of the image."""
    at = (np.arange(images.shape[-1]) + 0.5) / images.shape[-1]
    ink = images / 255
    total = ink.sum((2, 3))
    return ink.mean((2, 3)), (ink.sum(2) @ at) / total, (ink.sum(3) @ at) / total


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 20, 28, 0), "num_classes 0 < 1"),
        ((5, 0, 28, 0), "num_hands 0 < 1"),
        ((5, 20, 7, 0), "image_size 7 < 8"),
        ((5, 20, 28, -1), "seed -1 < 0"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_glyphs(*arguments)
