"""Grids: the combinators' laws, and that draws hang on (seed, k, field) alone."""

import numpy as np
import pytest

from icl_jax import grid


def changes(points):
    return [dict(point.changes) for point in points]


def test_product_has_every_combination_last_fastest():
    points = grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.over("model.num_layers", (2, 4, 8)))
    assert len(points) == 6
    assert [p.labels["num_layers"] for p in points] == [2, 4, 8, 2, 4, 8]
    assert changes(points)[4] == {"hypers.p_bursty": 1, "model.num_layers": 4}


def test_zip_pairs_and_refuses_unequal_lengths():
    points = grid.zipped(grid.over("model.width", (32, 64)), grid.over("model.num_heads", (4, 8)))
    assert [(p.labels["width"], p.labels["num_heads"]) for p in points] == [(32, 4), (64, 8)]
    with pytest.raises(ValueError, match=r"grids of \[2, 1\] points"):
        grid.zipped(grid.over("model.width", (32, 64)), grid.over("model.num_heads", (4,)))


def test_chain_keeps_all_in_order():
    one, two = grid.over("model.width", (32,)), grid.over("model.num_layers", (1, 2))
    assert grid.chain(one, two) == [*one, *two]


def test_named_settings_carry_their_name_as_label():
    points = grid.named("variation", {"single": {"bank.exemplars": "single"}, "all": {}})
    assert [(p.labels, p.changes) for p in points] == [
        ({"variation": "single"}, {"bank.exemplars": "single"}),
        ({"variation": "all"}, {}),
    ]


def test_seeds_are_repetitions_without_a_label():
    points = grid.seeds(3, first=10, streams=("init", "data"))
    assert changes(points) == [{"seeds.init": s, "seeds.data": s} for s in (10, 11, 12)]
    assert all(not p.labels for p in points)


def test_two_grids_that_set_the_same_field_are_refused():
    with pytest.raises(ValueError, match=r"both set .model\.width"):
        grid.product(grid.over("model.width", (1,)), grid.over("model.width", (2,)))


def test_draws_do_not_change_when_more_are_asked_for_or_fields_added():
    rate = {"hypers.learning_rate": grid.log_uniform(1e-5, 1e-1)}
    few, more = grid.random(3, rate, seed=4), grid.random(6, rate | {"hypers.warmup_steps": grid.uniform(1, 9)}, seed=4)
    assert [p.changes["hypers.learning_rate"] for p in few] == [p.changes["hypers.learning_rate"] for p in more[:3]]
    assert [p.labels["draw"] for p in more] == [0, 1, 2, 3, 4, 5]
    other = grid.random(3, rate, seed=5)
    assert not {p.changes["hypers.learning_rate"] for p in few} & {p.changes["hypers.learning_rate"] for p in other}


def test_log_uniform_is_uniform_in_the_logarithm():
    points = grid.random(2000, {"x.y": grid.log_uniform(1e-4, 1e-1)})
    decades = np.floor(np.log10([p.changes["x.y"] for p in points]))
    counts = [(decades == d).sum() for d in (-4, -3, -2)]
    assert sum(counts) == 2000
    # 2000 draws over 3 decades: sd of a count is 21
    assert all(abs(c - 2000 / 3) < 4 * 21 for c in counts)


def test_choice_takes_each_value_about_as_often():
    points = grid.random(900, {"x.y": grid.choice("a", "b", "c")})
    counts = [sum(p.changes["x.y"] == v for p in points) for v in "abc"]
    assert all(abs(c - 300) < 4 * 14.2 for c in counts)


def test_draws_from_an_empty_range_are_refused():
    with pytest.raises(ValueError, match="low must be below high"):
        grid.uniform(1, 1)
    with pytest.raises(ValueError, match="low must be above 0"):
        grid.log_uniform(0, 1)
