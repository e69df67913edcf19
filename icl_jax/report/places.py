"""Where the values of a swept quantity stand on an x axis."""

import numpy as np
from matplotlib.axes import Axes

from icl_jax.report.style import short_number, straighter_in_log
from icl_jax.report.view import Value, text

_LOG_SPAN = 20  # values that span more than this factor stand on a logarithmic axis
_LOG_STEPS = 8  # and those that span this one, where they lie straighter there
_LETTERS = 44  # of all names side by side below an axis
_MOST_NAMES = 16
_LONGEST = 16  # letters of a name
_LETTER = 0.074  # inches, of a tick's


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _is_log(values: np.ndarray) -> bool:
    span, few = values[-1] / values[0], len(values) < 3
    return bool(span > _LOG_SPAN or (span >= _LOG_STEPS and not few and straighter_in_log(values)))


class Places:
    """Numbers by size, names side by side. places[value] is the x of a value."""

    def __init__(self, values: list[Value]):
        self.values = values
        numbers = [value for value in values if isinstance(value, float)]
        self.numeric = len(values) > 1 and len(numbers) == len(values)
        self.log = self.numeric and min(numbers) > 0 and _is_log(np.sort(numbers))
        self._index = {value: float(i) for i, value in enumerate(values)}

    def __getitem__(self, value: Value) -> float:
        return value if self.numeric and isinstance(value, float) else self._index[value]

    @property
    def names(self) -> list[str]:
        return [short_number(v) if isinstance(v, float) else _cut(text(v)) for v in self.values]

    @property
    def tilted(self) -> bool:
        """Whether the names are too long to stand level, side by side."""
        return not self.numeric and max(map(len, self.names)) * len(self.names) > _LETTERS and not self.unnamed

    @property
    def unnamed(self) -> bool:
        """Whether there are too many names for any to be read."""
        return not self.numeric and len(self.values) > _MOST_NAMES

    @property
    def margins(self) -> tuple[float, float]:
        """Inches that tilted names need to the left of the axes and below, beyond those of level ones."""
        return (0.2, 0.055 * max(map(len, self.names))) if self.tilted else (0.0, 0.0)

    def scale(self, axes: Axes, name: str) -> None:
        """Sets scale, limits, ticks and title of an x axis. Ticks at the values, as far as they have room."""
        xs = [self[v] for v in self.values]
        if self.log:
            axes.set_xscale("log")
            margin = (max(xs) / min(xs)) ** 0.06
            axes.set_xlim(min(xs) / margin, max(xs) * margin)
        else:
            margin = 0.06 * (max(xs) - min(xs)) if self.numeric else 0.5
            axes.set_xlim(min(xs) - margin, max(xs) + margin)
        axes.set_xlabel(f"{name}: {len(xs)}, in the order of the table" if self.unnamed else name)
        if self.tilted:
            axes.set_xticks(xs, self.names, rotation=55, ha="right", rotation_mode="anchor")
        else:
            kept = [] if self.unnamed else self._with_room(axes, xs) if self.numeric else range(len(xs))
            axes.set_xticks([xs[i] for i in kept], [self.names[i] for i in kept])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)

    def _with_room(self, axes: Axes, xs: list[float]) -> list[int]:
        """Indices of ticks whose names do not touch: the last value's always, then from the left."""
        place = axes.transData.transform(np.stack([xs, np.zeros(len(xs))], 1))[:, 0] / axes.figure.dpi  # inches
        half = [_LETTER * len(name) / 2 + 0.02 for name in self.names]
        kept, last = [], len(xs) - 1
        for i in range(last):
            clear = not kept or place[i] - half[i] > place[kept[-1]] + half[kept[-1]]
            if clear and place[i] + half[i] < place[last] - half[last]:
                kept.append(i)
        return [*kept, last]
