"""What a sweep is and how far it has come, in words."""

import math

from icl_jax.claims.statistics import Acquisition
from icl_jax.report.data import SweepData
from icl_jax.report.html import Markup, details, render, table, tag
from icl_jax.report.unchanged import unchanged
from icl_jax.report.view import View, ordered, text

_MOST_LISTED = 20  # runs that diverged or are unfinished, one by one
_MOST_VALUES = 8


def overview(sweep: SweepData, view: View) -> Markup:
    """Returns what was swept, counts of runs, the command (of environment["command"]), patches that changed nothing
    and which runs ended early."""
    command = sweep.environment.get("command")
    return render(
        tag("p", swept(sweep, view), class_="lede"),
        tag("ul", [tag("li", chip) for chip in _chips(sweep, view)], class_="chips"),
        tag("pre", tag("code", command)) if command else None,
        [tag("p", sentence, class_="note") for sentence in unchanged(sweep.table)],
        _endings(sweep, view),
    )


def swept(sweep: SweepData, view: View) -> str:
    """Returns "p_bursty 0, 0.5, 0.9, 1. ICL: fewshot_holdout; IWL: no_support_zipfian."."""
    known = {name: ordered(run.labels.get(name) for run in _acquired(view)) for name in sweep.labels}
    parts = [f"{name} {_listed([text(v) for v in values])}" for name, values in known.items()]
    of = lambda shown: shown.suite if shown.is_default else shown.measure
    shown = "; ".join(f"{shown.title}: {of(shown)}" for shown in sweep.headlines)
    return f"{'; '.join(parts) or 'One setting'}. {shown}."


def _acquired(view: View) -> list[Acquisition]:
    return next((suite.acquired for suite in view.suites if suite.acquired), [])


def _listed(names: list[str]) -> str:
    few = len(names) <= _MOST_VALUES
    return ", ".join(names) if few else f"{names[0]}, {names[1]}, ..., {names[-1]} ({len(names)} values)"


def _chips(sweep: SweepData, view: View) -> list[Markup]:
    cells, done, failed, diverged = (sweep.status.get(name, 0) for name in ("cells", "done", "failed", "diverged"))
    each = f"{view.seeds} each" if len(view.best) > 1 else view.seeds
    plain = [f"{cells:,} run{'' if cells == 1 else 's'}", each, f"{done:,} done", _progress(sweep, view)]
    wrong = {"diverged": diverged, "failed": failed, "unfinished": max(0, cells - done - failed)}
    return [
        *(tag("span", part, class_="chip") for part in plain),
        *(
            tag("span", f"! {count:,} {name}", class_=f"chip {'undecided' if name == 'unfinished' else 'fails'}")
            for name, count in wrong.items()
            if count
        ),
    ]


def _progress(sweep: SweepData, view: View) -> str:
    planned = sweep.config.get("train", {}).get("num_steps", 0)
    return f"to step {view.end:,.0f}" + (f" of {planned:,}" if planned > view.end else "")


def _endings(sweep: SweepData, view: View) -> Markup | None:
    """Runs that diverged or have not come to the last step."""
    runs = [run for run in _acquired(view) if run.diverged or not run.is_complete(view.end)]
    if not runs:
        return None
    listed = runs[:_MOST_LISTED]
    rows = [[*(text(run.labels.get(name)) for name in sweep.labels), _seeds(run), _ending(run)] for run in listed]
    more = tag("p", f"and {len(runs) - len(listed)} more", class_="note") if len(runs) > len(listed) else None
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'} diverged or not at the last step"
    return details(count, table([*sweep.labels, "seed", "last evaluation that counts"], rows), more)


def _seeds(run: Acquisition) -> str:
    varied = {name: seed for name, seed in run.seeds.items() if name != "split"} or run.seeds
    if len(set(varied.values())) == 1:
        return str(next(iter(varied.values())))
    return ", ".join(f"{name} {seed}" for name, seed in varied.items())


def _ending(run: Acquisition) -> str:
    at = "none" if math.isnan(run.last_step) else f"step {run.last_step:,.0f}"
    return f"{at}; then diverged" if run.diverged else f"{at}; unfinished"
