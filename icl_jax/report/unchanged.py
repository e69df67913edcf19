"""Which interventions of a config acted and changed nothing, out of the tidy table."""

import pyarrow as pa
import pyarrow.compute as pc


def unchanged(table: pa.Table) -> list[str]:
    """Returns a sentence for each patch that changed nothing in some runs at any step at which it was on."""
    if "patch" not in table.column_names:
        return []
    rows = table.filter(pc.field("metric") == "changed").to_pylist()
    one = "cell" if "cell" in table.column_names else "member"
    largest: dict[str, dict] = {}
    for row in rows:
        if _acts(row):
            of_patch = largest.setdefault(row["patch"], {})
            of_patch[row[one]] = max(row["value"], of_patch.get(row[one], 0.0))
    silent = {name: [run for run, share in shares.items() if share == 0] for name, shares in largest.items()}
    return [
        f"Patch {name!r} acts and changes nothing in {len(runs)} of {len(largest[name])} runs in which it is on."
        for name, runs in silent.items()
        if runs
    ]


def _acts(row: dict) -> bool:
    """Whether a patch of the config is on in the run of a row, at its step."""
    number = lambda field: row[f"hyper/patches.{row['patch']}.{field}"]
    if row.get(f"hyper/patches.{row['patch']}.on") is None:
        return False
    return bool(number("on")) and number("start") <= row["step"] and not 0 < number("stop") <= row["step"]
