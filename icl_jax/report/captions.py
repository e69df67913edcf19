"""How the figures of a sweep are to be read, and what they leave out."""

from icl_jax.report.sweep_curves import MOST_SEEDS
from icl_jax.report.sweep_final import shows_peaks
from icl_jax.report.view import MOST_LINES, Runs, View

PATHS = "From the open ring (first evaluation) to the filled mark (last one), mean over seeds; dashed: floors."
_LISTED = 4


def learning(view: View) -> str:
    """Returns the caption of learning curves."""
    most = max(len(runs.values) for runs in _shown(view))
    many = len(view.values) > MOST_LINES
    parts = ["One seed for each setting." if most == 1 else f"{'Lines' if many else 'Bold'}: mean over {view.seeds}."]
    if most > 1 and many:
        parts.append(f"With {len(view.values)} settings in a panel, intervals and single seeds are left out here.")
    elif most > 1:
        parts.append("Band: 95 % interval of the mean (Student's t over seeds).")
    if 1 < most <= MOST_SEEDS and not many and not view.drawn:
        parts.append("Thin: each seed.")
    if any(suite.bounded for suite in view.suites):
        parts.append("Dashed: floor and ceiling, the best oracle without the mechanism under test and the one with it.")
    if any(runs.diverged.any() for runs in _shown(view)):
        parts.append("Cross: a run diverged; it counts up to there.")
    if any(not run.diverged and not run.is_complete(view.end) for suite in view.suites for run in suite.acquired):
        parts.append("Unfinished runs enter the mean as far as they have come.")
    return " ".join(filter(None, [*parts, _coloured(view), _draws(view), columns(view)]))


def final(view: View) -> str:
    """Returns the caption of final and peak scores."""
    several = any(len(runs.final) > 1 for runs in _shown(view))
    of = "mean over seeds with its 95 % interval" if several else "one seed"
    what = "accuracy" if all(suite.headline.is_accuracy for suite in view.suites) else "value"
    parts = [f"Dot: {what} at step {view.end:,.0f}, {of}."]
    if view.chosen_by and shows_peaks(view):
        parts.append(f"Ring: largest accuracy over training ({'mean over seeds, ' if several else ''}biased up).")
    elif view.chosen_by:
        parts.append(f"With {len(view.values)} lines, peaks are left out; the table has them.")
    if view.drawn:
        parts.append(f"Of several random draws: {_chosen(view)}.")
    spots = next((suite.runs for suite in view.suites if suite.runs), {})
    absent = [view.name(*place) for place, spot in view.best.items() if spot in spots and not len(spots[spot].final)]
    if absent:
        more = f" and {len(absent) - _LISTED} more" if len(absent) > _LISTED else ""
        parts.append(f"No run has come to that step of: {'; '.join(absent[:_LISTED])}{more}.")
    return " ".join(parts)


def phase(view: View) -> str:
    """Returns the caption of phase diagrams."""
    what = "Accuracy" if all(suite.headline.is_accuracy for suite in view.suites) else "Value"
    return f"{what} at step {view.end:,.0f}, mean over {view.seeds}; a dash: no run has come to that step."


def columns(view: View) -> str:
    """Returns which columns are left out, "" for none."""
    if len(view.shown_columns) == len(view.columns):
        return ""
    of = f"{len(view.shown_columns)} of {len(view.columns)} values of {', '.join(view.others)}"
    return f"{of} are shown, evenly spread; the table has all."


def _shown(view: View) -> list[Runs]:
    return [suite.runs[spot] for suite in view.suites for spot in view.best.values() if spot in suite.runs]


def _coloured(view: View) -> str:
    if (named := len(view.coloured)) == len(view.values):
        return ""
    of = f"{named} of {len(view.values)} values of {view.primary}"
    which = f" with the highest final {view.chosen_by}" if view.chosen_by else ""
    return f"In colour: the {of}{which}; grey: the others."


def _draws(view: View) -> str:
    if not view.drawn:
        return ""
    most = max(map(len, view.draws.values()))
    favours = "chosen by what is shown, which favours it (claims can choose on one suite and report another)"
    note = f", {favours}" if view.chosen_by else ""
    return f"Of up to {most} random draws for each setting {_chosen(view)} is bold{note}. Faint: means of the others."


def _chosen(view: View) -> str:
    return f"the one of highest final {view.chosen_by}" if view.chosen_by else "the first"
