"""Whatever is damaged on disk is found when it is read, named, and made again where that is possible."""

import json
import pathlib
import random
import shutil
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from test_sweep import assert_same_tables, run, table_of, tiny_sheet
from tiny import tiny_config

import icl_jax
from icl_jax import grid
from icl_jax.runs import api, rundir
from icl_jax.runs.config import override
from icl_jax.storage.checkpoint import Checkpoints
from icl_jax.storage.metrics import DamagedMetrics, MetricsWriter, damage_of, read_metrics
from icl_jax.storage.sealed import DamagedFile, read_record, read_table, record_text, write_record, write_table
from icl_jax.sweep import commands, job
from icl_jax.sweep.folder import Folder
from icl_jax.sweep.sweep import open_sweep

# What is damaged is said, and set aside or made anew: the tests look at what becomes of it.
pytestmark = pytest.mark.filterwarnings("default:.* is damaged:UserWarning")
FLIPS = 200
STEPS = {"train__num_steps": 40, "checkpoint__keep_last": 1}


def flip(path: pathlib.Path, draw: random.Random) -> None:
    """Changes one bit of a file, or one byte."""
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content))
    content[place] ^= 1 << draw.randrange(8) if draw.random() < 0.5 else draw.randrange(1, 256)
    path.write_bytes(content)


# --- records and tables ---

RECORD = {"name": "a", "values": [0.1, 1e-300, float("nan"), 3], "none": None, "deep": {"x": {"y": (1, 2)}}, "ü": "é"}


def test_a_record_comes_back(tmp_path):
    write_record(tmp_path / "r.json", RECORD)
    found = read_record(tmp_path / "r.json", "")
    assert json.dumps(found) == json.dumps({**RECORD, "schema": 2})
    write_record(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_text() == (tmp_path / "r.json").read_text()


def test_every_change_of_a_record_is_found_or_changes_nothing(tmp_path):
    path, draw, found = tmp_path / "r.json", random.Random(0), 0
    write_record(path, RECORD)
    whole, fields = path.read_bytes(), json.dumps(read_record(path, ""))
    for place in range(len(whole)):
        for change in (1 << draw.randrange(8), draw.randrange(1, 256)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            try:
                assert json.dumps(read_record(path, "way out")) == fields  # white space
            except ValueError as fault:
                assert str(path) in str(fault)
                found += 1
    assert found > len(whole)
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedFile, match="way out"):
            read_record(path, "way out")


@pytest.mark.parametrize("text", ["[]", "{}", "3", "", "\x00\xff", "[" * 100_000, '{"schema": 2, "name": "unsealed"}'])
def test_what_is_no_record_is_named(text, tmp_path):
    (tmp_path / "r.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DamagedFile, match=r"r\.json is damaged .*; way out"):
        read_record(tmp_path / "r.json", "way out")


def test_records_of_earlier_versions_are_read_and_of_later_ones_refused(tmp_path):
    (tmp_path / "r.json").write_text('{"schema": 1, "name": "old"}')
    assert read_record(tmp_path / "r.json", "")["name"] == "old"
    later = json.loads(record_text({"name": "new"})) | {"schema": 3}
    del later["sha256"]
    (tmp_path / "r.json").write_text(json.dumps(later))
    with pytest.raises(ValueError, match="another version of icl_jax"):
        read_record(tmp_path / "r.json", "")


def make_table():
    draw = np.random.default_rng(0)
    names = pa.array([["icl", "ü", None, "train"][i % 4] for i in range(300)])
    values = np.where(np.arange(300) % 7, draw.normal(size=300), np.nan)
    return pa.table({"member": pa.array(range(300), pa.int32()), "suite": names, "value": values})


def test_a_tables_digest_is_of_its_content(tmp_path):
    """However it is cut into chunks; any other value, type, name or order is another table."""
    table = make_table()
    chunked = pa.concat_tables([table.slice(0, 7), table.slice(7, 100), table.slice(107)])
    write_table(chunked, tmp_path / "t.parquet", {"steps": 3})
    found, facts = read_table(tmp_path / "t.parquet")
    assert found.equals(table.combine_chunks()) or str(found.to_pylist()) == str(table.to_pylist())
    assert facts["steps"] == 3
    tables = [table, table.slice(1), table.rename_columns(["member", "suite", "v"]), table.select([1, 0, 2])]
    tables += [table.set_column(0, "member", table["member"].cast(pa.int64())), table.take(list(range(299, -1, -1)))]
    digests = set()
    for index, other in enumerate(tables):
        write_table(other, tmp_path / f"{index}.parquet", {})
        digests.add(read_table(tmp_path / f"{index}.parquet")[1]["table"])
    assert len(digests) == len(tables) and facts["table"] in digests


def test_every_change_of_a_table_is_found_or_changes_nothing(tmp_path):
    path, draw, found = tmp_path / "t.parquet", random.Random(1), 0
    write_table(make_table(), path, {"steps": 3, "after": -1})
    whole = path.read_bytes()
    expected = [str(part) for part in (read_table(path)[0].to_pylist(), read_table(path)[1])]
    for _ in range(600):
        flip(path, draw)
        try:
            table, facts = read_table(path)
            assert str(table.to_pylist()) == expected[0]
            assert not facts or str(facts) == expected[1]
        except DamagedFile as fault:
            assert str(path) in str(fault)
            found += 1
        path.write_bytes(whole)
    assert found > 300


# --- a small sweep ---


@pytest.fixture(scope="module")
def sheet():
    return tiny_sheet(grid.product(grid.over("hypers.p_bursty", (0, 1)), grid.seeds(2)), **STEPS)


@pytest.fixture(scope="module")
def finished(sheet, tmp_path_factory):
    """Directory of sweeps: one population of four members, of four parts and a checkpoint of step 40."""
    out = tmp_path_factory.mktemp("sealed")
    assert run(sheet, out).done == 1
    (population,) = (out / "tiny_sweep" / "populations").iterdir()
    assert len(list((population / "metrics").glob("part-*"))) == 4
    assert Checkpoints(population / "checkpoints").steps() == [40]
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "sweeps")


def population_of(out) -> pathlib.Path:
    (found,) = (out / "tiny_sweep" / "populations").iterdir()
    return found


def parts_of(out) -> list[pathlib.Path]:
    return sorted((population_of(out) / "metrics").glob("part-*.parquet"))


def entry_of(out) -> pathlib.Path:
    (found,) = (out / "tiny_sweep" / "done").iterdir()
    return found


def looked_at(sheet, out):
    """What status, results and the report say, and what was said against it: (table or None, said)."""
    folder, said = Folder(out / "tiny_sweep"), []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        console = Console(record=True, width=2000, file=open("/dev/null", "w"))  # noqa: SIM115
        tables = []
        for look in (
            lambda: commands.watch_status(sheet, out, console),
            lambda: tables.append(table_of(sheet, out)),
            lambda: tables.append(commands.load_data(folder).table),
        ):
            try:
                look()
            except (ValueError, OSError) as fault:
                said.append(str(fault))
    said += [str(warning.message) for warning in warned]
    return tables, " ".join([*said, console.export_text()])


def test_no_flip_gives_another_number_without_a_word(sheet, finished, copy):
    """200 flips over all files of a sweep, each kind of file as often: what is read is right, or the file is named."""
    expected, draw, found = table_of(sheet, finished), random.Random(2), 0
    kinds = {}
    for path in sorted(p for p in (copy / "tiny_sweep").rglob("*") if p.is_file() and p.stat().st_size):
        parts = path.relative_to(copy / "tiny_sweep").parts
        kinds.setdefault(parts[2] if parts[0] == "populations" else parts[0], []).append(path)
    assert {"sweep.json", "plan", "done", "run.json", "metrics", "checkpoints"} <= set(kinds)
    for index in range(FLIPS):
        path = draw.choice(kinds[sorted(kinds)[index % len(kinds)]])
        whole = path.read_bytes()
        flip(path, draw)
        tables, said = looked_at(sheet, copy)
        named = path.name in said
        found += named
        for table in tables:
            if table.num_rows or not named:
                assert_same_tables(table, expected)
        assert len(tables) == 2 or named, said
        path.write_bytes(whole)
    assert found > FLIPS / 3
    assert_same_tables(table_of(sheet, copy), expected)


def damage(name):
    """How a test may hurt a sweep; returns what must be named."""

    def flipped(find):
        def hurt(out):
            path = find(out)
            content = bytearray(path.read_bytes())
            content[len(content) // 3] ^= 1
            path.write_bytes(content)
            return path.name

        return hurt

    def gone(find):
        def hurt(out):
            find(out).unlink()
            return "are missing"

        return hurt

    def cut(find):
        def hurt(out):
            path = find(out)
            path.write_bytes(path.read_bytes()[:100])
            return path.name

        return hurt

    part = lambda index: lambda out: parts_of(out)[index]
    return {
        "first part flipped": flipped(part(0)),
        "middle part flipped": flipped(part(1)),
        "last part flipped": flipped(part(-1)),
        "middle part cut": cut(part(2)),
        "first part gone": gone(part(0)),
        "middle part gone": gone(part(1)),
        "last part gone": gone(part(-1)),
        "run.json flipped": flipped(lambda out: population_of(out) / "run.json"),
        "run.json gone": lambda out: (population_of(out) / "run.json").unlink() or "run.json",
    }[name]


HURTS = ["first part flipped", "middle part cut", "last part flipped", "first part gone", "middle part gone"]
HURTS += ["last part gone", "run.json flipped", "run.json gone"]


@pytest.mark.parametrize("hurt", HURTS)
def test_a_population_whose_rows_have_a_gap_is_not_done_and_is_made_whole(hurt, sheet, finished, copy):
    """Its entry in the ledger is gone too. It is left out, named, and trained again to the same bits."""
    expected, before = table_of(sheet, finished), Checkpoints(population_of(copy) / "checkpoints").restore()[1]
    names = damage(hurt)(copy)
    entry_of(copy).unlink()
    tables, said = looked_at(sheet, copy)
    assert names in said
    assert all(not table.num_rows for table in tables), "not a part of the numbers, as if that were all"
    assert not job.is_whole(population_of(copy), 40)
    with pytest.warns(UserWarning, match="trained again|written anew"):
        assert run(sheet, copy).done == 1
    assert_same_tables(table_of(sheet, copy), expected)
    assert not damage_of(population_of(copy) / "metrics", 40)
    after = Checkpoints(population_of(copy) / "checkpoints").restore()[1]
    assert str(before) == str(after)
    said = rundir.read(population_of(copy))
    assert said["identity"] == population_of(copy).name and set(said["suites"]) == set(sheet.config.evals.suites)


def test_a_damaged_entry_is_read_from_the_run_and_made_again(sheet, finished, copy):
    expected, whole = table_of(sheet, finished), entry_of(copy).read_bytes()
    draw, found = random.Random(3), 0
    for _ in range(40):
        flip(entry_of(copy), draw)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert_same_tables(table_of(sheet, copy), expected)
        found += any(entry_of(copy).name in str(w.message) and "sweep run" in str(w.message) for w in warned)
        entry_of(copy).write_bytes(whole)
    assert found > 20
    entry_of(copy).write_bytes(whole[:1000] + bytes(64) + whole[1064:])
    with pytest.warns(UserWarning, match="is damaged"):
        assert run(sheet, copy).done == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_tables(table_of(sheet, copy), expected)
    assert entry_of(copy).read_bytes() == whole


def test_an_entry_and_its_run_both_damaged(sheet, finished, copy):
    expected = table_of(sheet, finished)
    for path in (entry_of(copy), parts_of(copy)[1]):
        content = path.read_bytes()
        path.write_bytes(content[:1000] + bytes(64) + content[1064:])
    tables, said = looked_at(sheet, copy)
    assert entry_of(copy).name in said and parts_of(copy)[1].name in said and "4 cells are left out" in said
    assert not any(table.num_rows for table in tables)
    with pytest.warns(UserWarning):
        assert run(sheet, copy).done == 1
    assert_same_tables(table_of(sheet, copy), expected)


def test_a_stretch_is_trained_from_the_last_good_checkpoint_before_it(sheet, copy, monkeypatch):
    """With the checkpoints kept, one chunk interval and no more is trained: steps 21 to 30 of 40."""
    more = tiny_sheet(sheet.points, **STEPS, checkpoint__keep_every=10)
    shutil.rmtree(copy)
    assert run(more, copy).done == 1
    expected = table_of(more, copy)
    damage("middle part cut")(copy)
    entry_of(copy).unlink()
    seen = []
    advance = api.loop._Loop.advance
    monkeypatch.setattr(api.loop._Loop, "advance", lambda self, *a: (advance(self, *a), seen.append(self.step)))
    with pytest.warns(UserWarning, match="steps 21 to 30 are missing: trained again"):
        assert run(more, copy).done == 1
    assert seen == [25, 30]
    assert_same_tables(table_of(more, copy), expected)
    assert [p.name for p in (population_of(copy) / "metrics").glob("*.damaged")] == [
        "part-000000025-000000030.parquet.damaged"
    ]
    assert_same_tables(read_metrics(population_of(copy) / "metrics" / "*.parquet"), read_run(copy))


def read_run(out):
    return read_metrics(population_of(out) / "metrics", 40)


@pytest.mark.parametrize("found", ["gone", "damaged"])
def test_the_only_part_is_missed_though_a_suite_was_added(found, sheet, tmp_path):
    """One part holds all training rows, another those of a suite that was added: the first is gone, or damaged."""
    once = dict(STEPS) | {"checkpoint__every": 40}
    added = {"evals.custom.own": {"kind": "fewshot"}}
    for changes in ({}, added):
        later = tiny_sheet(sheet.points, changes, **once)
        assert run(later, tmp_path).done == 1
    expected = table_of(later, tmp_path)
    covering, *_ = [part for part in parts_of(tmp_path) if part.name.startswith("part-000000000")]
    covering.unlink() if found == "gone" else covering.write_bytes(covering.read_bytes()[:99])
    entry_of(tmp_path).unlink()
    assert damage_of(population_of(tmp_path) / "metrics", 40).gaps == ((-1, 40),)
    with pytest.warns(UserWarning, match="steps 0 to 40 are missing: trained again"):
        assert run(later, tmp_path).done == 1
    again = table_of(later, tmp_path)
    keys = [tuple(v for n, v in r.items() if n != "value") for r in again.to_pylist()]
    assert len(set(keys)) == len(keys), "no row is there twice"
    asked = {tuple(v for n, v in r.items() if n != "value"): str(r["value"]) for r in again.to_pylist()}
    for row in expected.to_pylist():
        assert asked[tuple(v for n, v in row.items() if n != "value")] == str(row["value"])
    assert_same_keys(icl_jax.load_run(population_of(tmp_path)).table)


def assert_same_keys(table):
    keys = [tuple(str(v) for n, v in r.items() if n != "value") for r in table.to_pylist()]
    assert len(set(keys)) == len(keys)


def test_metrics_that_are_gone_altogether_are_named_and_made_again(sheet, finished, copy):
    expected = table_of(sheet, finished)
    shutil.rmtree(population_of(copy) / "metrics")
    entry_of(copy).unlink()
    tables, said = looked_at(sheet, copy)
    assert "rows of steps 0 to 40 are missing" in said and not any(table.num_rows for table in tables)
    with pytest.warns(UserWarning, match="trained again"):
        assert run(sheet, copy).done == 1
    assert_same_tables(table_of(sheet, copy), expected)


def test_a_population_that_is_gone_is_still_in_the_ledger(sheet, finished, copy):
    """As where only the results were kept: status shows it as done."""
    shutil.rmtree(population_of(copy))
    tables, said = looked_at(sheet, copy)
    assert "1 done" in said and len(tables) == 2
    for table in tables:
        assert_same_tables(table, table_of(sheet, finished))


def test_a_run_json_that_is_made_again_knows_what_its_suites_meant(sheet, tmp_path):
    """The evals changed after training; what the checkpoints were saved with is not what was measured last."""
    sizes = {
        n: tiny_sheet(sheet.points, {"evals.num_sequences": n}, **STEPS, checkpoint__keep_every=10) for n in (32, 64)
    }
    assert run(sizes[32], tmp_path).done == 1
    with pytest.warns(UserWarning, match="is scored anew"):
        assert run(sizes[64], tmp_path).done == 1
    suites = rundir.read(population_of(tmp_path))["suites"]
    (population_of(tmp_path) / "run.json").write_text("{")
    with pytest.warns(UserWarning, match="written anew"):
        assert rundir.look(population_of(tmp_path))["suites"] == suites
    entry_of(tmp_path).unlink()
    with pytest.warns(UserWarning, match="written anew"):
        assert run(sizes[64], tmp_path).done == 1
    assert rundir.read(population_of(tmp_path))["suites"] == suites
    (population_of(tmp_path) / "run.json").write_text("{")
    with pytest.warns(UserWarning, match="is scored anew"):
        assert run(sizes[32], tmp_path).done == 1, "damaged, and the evals changed again"
    assert rundir.read(population_of(tmp_path))["suites"] != suites


def test_a_stop_while_a_stretch_is_trained_again_leaves_the_run_unfinished(sheet, finished, copy, monkeypatch):
    expected = table_of(sheet, finished)
    damage("first part gone")(copy)
    entry_of(copy).unlink()
    with monkeypatch.context() as stopped, pytest.warns(UserWarning, match="trained again"):
        stopped.setattr(api.loop, "anywhere", lambda flag: True)
        opened = open_sweep(sheet, copy)
        assert not job.run_job(opened.folder, opened.jobs()[0], progress=False)
    assert not entry_of_or_none(copy)
    with pytest.warns(UserWarning, match="trained again"):
        assert run(sheet, copy).done == 1
    assert_same_tables(table_of(sheet, copy), expected)


def entry_of_or_none(out):
    return next((out / "tiny_sweep" / "done").iterdir(), None)


def test_parts_of_a_split_population_inherit_whole_rows_only(sheet, finished, copy):
    from icl_jax.sweep import worker

    expected = table_of(sheet, finished)
    damage("middle part gone")(copy)
    entry_of(copy).unlink()
    opened = open_sweep(sheet, copy)
    with pytest.warns(UserWarning, match="its parts start anew"):
        assert worker.split(opened.folder, opened.jobs()[0], "for the test", lambda text: None) == "split"
    assert run(sheet, copy).done == 2
    again = table_of(sheet, copy)
    assert again.num_rows == expected.num_rows and again["cell"] == expected["cell"]


def test_handing_down_twice_doubles_nothing(finished, copy):
    """As when it was killed before the plan was written."""
    from icl_jax.sweep.inherit import hand_down
    from icl_jax.sweep.plan import halves

    folder = Folder(copy / "tiny_sweep")
    (whole,) = folder.plan()
    part = halves(whole)[0]
    for _ in range(2):
        hand_down(folder, whole, part)
        table = read_metrics(folder.run_directory(part.id) / "metrics", 40)
        assert_same_keys(table)
    assert table.num_rows * 2 == read_run_rows(folder, whole)


def test_a_part_that_has_gone_on_keeps_that_when_it_is_split_off_again(sheet, copy):
    """As where the plan was moved away, and the whole, which stands at step 40, is planned and split anew."""
    from icl_jax.sweep import worker

    longer = open_sweep(tiny_sheet(sheet.points, {"train.num_steps": 60}, **STEPS), copy)
    whole = longer.jobs()[0]
    assert worker.split(longer.folder, whole, "for the test", lambda text: None) == "split"
    assert run(longer.sheet, copy).done == 2
    before = table_of(longer.sheet, copy)
    worker.split(longer.folder, whole, "for the test", lambda text: None)
    for part in longer.folder.plan():
        assert job.reached(longer.folder.run_directory(part.id)) == 60
    assert_same_tables(table_of(longer.sheet, copy), before)


def read_run_rows(folder, planned) -> int:
    return read_metrics(folder.run_directory(planned.id) / "metrics").num_rows


# --- `icl train` ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    api.train(tiny_config(**STEPS), path, progress=False)
    return path


@pytest.mark.parametrize("index", [0, 1, -1])
def test_a_finished_run_with_a_damaged_part_is_made_whole(index, trained, tmp_path):
    path = shutil.copytree(trained, tmp_path / "run")
    part = sorted((path / "metrics").glob("part-*"))[index]
    part.write_bytes(part.read_bytes()[:-50])
    damaged = icl_jax.load_run(path)
    with pytest.raises(DamagedMetrics, match=rf"{part.name} is damaged.*icl train"):
        _ = damaged.table
    assert damaged.damage()
    with pytest.warns(UserWarning, match="trained again"):
        run = api.train(tiny_config(**STEPS), path, progress=False)
    assert not run.damage()
    assert_same_tables(run.table, icl_jax.load_run(trained).table)


def test_a_run_that_cannot_begin_again_says_so(trained, tmp_path):
    """Its first rows are gone, and so is the run that it started from."""
    first = shutil.copytree(trained, tmp_path / "first")
    config = tiny_config(**STEPS, init_from__run=str(first))
    api.train(config, tmp_path / "run", progress=False)
    sorted((tmp_path / "run" / "metrics").glob("part-*"))[0].unlink()
    longer = override(config, {"train.num_steps": 50})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="first steps cannot be trained again"):
        api.train(tiny_config(**{**STEPS, "train__num_steps": 50}), first, progress=False)
        api.train(config, tmp_path / "run", progress=False)
    shutil.rmtree(first)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="holds no run"):
        api.train(longer, tmp_path / "run", progress=False)


def test_a_damaged_run_json_is_written_anew_from_the_checkpoints(trained, tmp_path):
    path = shutil.copytree(trained, tmp_path / "run")
    before = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text((path / "run.json").read_text()[:200])
    with pytest.raises(DamagedFile, match=r"run\.json is damaged .*the command that trains the run"):
        icl_jax.load_run(path)
    with pytest.warns(UserWarning, match="written anew"), pytest.raises(ValueError, match="holds another run"):
        api.train(tiny_config(**STEPS, train__batch_size=16), path, progress=False)
    with pytest.warns(UserWarning, match="written anew"), pytest.raises(ValueError, match="measurements of"):
        api.train(tiny_config(**STEPS, evals__num_sequences=64), path, progress=False)
    with pytest.warns(UserWarning, match="written anew"):
        api.train(tiny_config(**STEPS), path, progress=False)
    assert json.loads((path / "run.json").read_text()) == before


def unsealed(path: pathlib.Path) -> None:
    """Makes a run what an earlier version wrote."""
    for part in (path / "metrics").glob("part-*"):
        pq.write_table(read_table(part)[0], part)
    fields = json.loads((path / "run.json").read_text())
    old = {k: v for k, v in fields.items() if k not in ("sha256", "identity_schema")} | {"schema": 1}
    (path / "run.json").write_text(json.dumps(old))


def test_a_run_of_an_earlier_version_opens_and_goes_on(trained, tmp_path):
    """Its parts have no digests and do not say what they cover: their training rows tell."""
    path = shutil.copytree(trained, tmp_path / "run")
    unsealed(path)
    assert not icl_jax.load_run(path).damage()
    assert_same_tables(icl_jax.load_run(path).table, icl_jax.load_run(trained).table)
    longer = tiny_config(**{**STEPS, "train__num_steps": 50})
    run = api.train(longer, path, progress=False)
    assert not run.damage() and set(run.table["step"].to_pylist()) == {0, *range(5, 51, 5)}
    assert rundir.read(path)["schema"] == 2
    whole = sorted((path / "metrics").glob("part-*"))
    for index, stretch in ((0, "0 to 10"), (2, "21 to 30"), (4, "41 to 50")):
        moved = whole[index].rename(path / "aside")
        assert f"steps {stretch} are missing" in str(icl_jax.load_run(path).damage())
        moved.rename(whole[index])


def test_an_old_run_whose_parts_have_one_logged_step_each(tmp_path):
    """A part does not tell where the one before it ended: the chunk in run.json does."""
    config = tiny_config(**STEPS, runtime__chunk_steps=10)
    expected = api.train(config, tmp_path / "run", progress=False).table
    unsealed(tmp_path / "run")
    assert not icl_jax.load_run(tmp_path / "run").damage()
    parts = sorted((tmp_path / "run" / "metrics").glob("part-*"))
    for index, stretch in ((0, "0 to 10"), (1, "11 to 20"), (3, "31 to 40")):
        moved = parts[index].rename(tmp_path / "aside")
        assert f"steps {stretch} are missing" in str(icl_jax.load_run(tmp_path / "run").damage())
        moved.rename(parts[index])
    parts[1].write_bytes(parts[1].read_bytes()[:99])
    with pytest.warns(UserWarning, match="steps 11 to 20 are missing: trained again"):
        run = api.train(config, tmp_path / "run", progress=False)
    assert_same_tables(run.table, expected)


def test_an_old_run_goes_on_with_another_chunk(tmp_path):
    """Its parts are sealed while run.json still says with what chunk they were written."""
    old = tiny_config(**STEPS, runtime__chunk_steps=10)
    expected = api.train(old, tmp_path / "run", progress=False).table
    unsealed(tmp_path / "run")
    run = api.train(tiny_config(**{**STEPS, "train__num_steps": 60}), tmp_path / "run", progress=False)
    assert not run.damage() and {45, 50, 55, 60} <= set(run.table["step"].to_pylist())
    assert_same_tables(run.table.filter(pc.field("step") <= 40), expected)
    for suites in (["own"], ["fewshot_holdout"]):
        MetricsWriter(tmp_path / "run" / "metrics").drop_suites(suites)
        assert not icl_jax.load_run(tmp_path / "run").damage()


@pytest.mark.parametrize("steps", [40, 30])
def test_a_damaged_newest_checkpoint_is_set_aside(steps, tmp_path):
    """Trained again to there, or to fewer steps, the run is whole and nobody takes the damaged step for reached."""
    path = tmp_path / "run"
    kept = tiny_config(**{**STEPS, "train__num_steps": steps, "checkpoint__keep_last": 2})
    api.train(override(kept, {"train.num_steps": 40}), path, progress=False)
    for file in (path / "checkpoints" / "40" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(bytes(file.stat().st_size))
    with pytest.warns(UserWarning, match="passing over a damaged checkpoint"):
        run = api.train(kept, path, progress=False)
    assert run.step == steps and not run.damage() and max(run.table["step"].to_pylist()) == steps
    assert (path / "checkpoints.damaged" / "40").is_dir()


def test_another_trainer_that_mends_first_doubles_nothing(trained, tmp_path, monkeypatch):
    """It does so after this one has looked and before it has the lock."""
    path = shutil.copytree(trained, tmp_path / "run")
    sorted((path / "metrics").glob("part-*"))[1].unlink()
    real = api._prepare

    def prepare(*args):
        work = real(*args)
        monkeypatch.setattr(api, "_prepare", real)
        shutil.rmtree(path)
        shutil.copytree(trained, path)
        return work

    monkeypatch.setattr(api, "_prepare", prepare)
    run = api.train(tiny_config(**STEPS), path, progress=False)
    assert_same_tables(run.table, icl_jax.load_run(trained).table)


FIELDS = ("name", "title", "doc", "source", "changes", "config", "cells", "claims")


@pytest.mark.parametrize("field", FIELDS)
def test_an_old_sweep_json_that_lacks_a_field_is_named(field, sheet, copy):
    path = copy / "tiny_sweep" / "sweep.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in (field, "sha256")} | {"schema": 1}
    path.write_text(json.dumps(old))
    for look in (lambda: table_of(sheet, copy), lambda: commands.load_data(Folder(copy / "tiny_sweep"))):
        with pytest.raises(DamagedFile, match=rf"sweep\.json is damaged \(it lacks {field}\); run `icl sweep run`"):
            look()


@pytest.mark.parametrize("field", ["identity", "config", "members", "start", "plan", "bank", "environment"])
def test_an_old_run_json_that_lacks_a_field_is_named(field, trained, tmp_path):
    (tmp_path / "run.json").write_text(
        json.dumps({k: v for k, v in rundir.read(trained).items() if k != field} | {"schema": 1})
    )
    with pytest.raises(DamagedFile, match=rf"run\.json is damaged \(it lacks {field}\)"):
        icl_jax.load_run(tmp_path)


def test_a_directory_of_parts_is_read_while_they_change(trained, tmp_path, monkeypatch):
    """A part that was listed and then renamed is looked for again."""
    from icl_jax.storage import metrics as store

    path = shutil.copytree(trained / "metrics", tmp_path / "metrics")
    expected, files, listed = read_metrics(path), store._files, []

    def list_and_rename(where):
        found = files(where)
        if not listed:
            found[-1].rename(found[-1].with_name("part-000000033-000000041.parquet"))
        listed.append(found)
        return found

    monkeypatch.setattr(store, "_files", list_and_rename)
    assert_same_tables(read_metrics(path), expected)
    assert len(listed) == 2


def test_rows_that_are_dropped_are_no_gap(trained, tmp_path):
    path = shutil.copytree(trained / "metrics", tmp_path / "metrics")
    MetricsWriter(path).drop_suites(["fewshot_holdout"])
    assert not damage_of(path, 40) and "fewshot_holdout" not in read_metrics(path, 40)["suite"].to_pylist()
    writer = MetricsWriter(path)
    writer.truncate_after(25)
    assert damage_of(path, 40).gaps == ((25, 40),) and not damage_of(path, 25)
