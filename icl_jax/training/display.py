"""What a long run shows while it works."""

import sys
import time
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

MOST_SHOWN = 16  # members with a row of their own; the others are summarised in one
_FORGET = 0.7  # weight of the earlier rate when a new one is measured


class Progress:
    """Live display of a population's training, as a context manager.

    On a terminal: phase, bar, rates, time left and a row per member. Elsewhere (a log): one plain line
    per evaluation, that is per change of a headline, and one when a member diverges.

    members: a label per member; sequences_per_step: of one member; title: what is trained; headlines: titles of what
    is shown beside the loss;
    enabled False shows nothing; plain None asks the terminal.
    """

    def __init__(
        self,
        members: Sequence[str],
        total_steps: int,
        sequences_per_step: int,
        *,
        title: str = "",
        headlines: Sequence[str] = (),
        enabled: bool = True,
        plain: bool | None = None,
    ):
        self.members, self.total_steps, self.sequences_per_step = (
            list(members),
            total_steps,
            sequences_per_step,
        )
        self.title, self.headlines, self.enabled = title, list(headlines), enabled
        self.plain = (not sys.stdout.isatty()) if plain is None else plain
        self._console = Console(file=sys.stdout, force_terminal=None if plain is None else not plain)
        self._live: Live | None = None
        self._phase = "starting"
        self._values: list[tuple] = [(None, *[None] * len(self.headlines), "running")] * len(self.members)
        self._shown: tuple = ()
        self._clock = _Clock()

    def __enter__(self) -> "Progress":
        self._clock = _Clock()
        if self.enabled and self.plain and self.title:
            self._console.print(self.title, markup=False, highlight=False, soft_wrap=True)
        if self.enabled and not self.plain:
            self._live = Live(self, console=self._console, refresh_per_second=2, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def phase(self, text: str) -> None:
        """Says what is being done: compiling, training, evaluating, ... In a log compiling has a line, as it may take a
        while until the next one."""
        if self.enabled and self.plain and text == "compiling" != self._phase:
            self._console.print("compiling ...", markup=False, highlight=False)
        self._phase = text

    def update(
        self,
        step: int,
        loss: Num[np.ndarray, "M"] | None,
        headlines: Sequence[Num[np.ndarray, "M"] | None],
        status: Sequence[str] | None = None,
    ) -> None:
        """Takes what is known after `step` steps: arrays (M,) or None, one for each headline; status: a text per
        member."""
        none = [None] * len(self.members)
        columns = [none if column is None else list(column) for column in (loss, *headlines)]
        self._values = list(zip(*columns, status or ["running"] * len(self.members), strict=True))
        self._clock.tick(step)
        if self.enabled and self.plain:
            shown = tuple(repr(value[1:]) for value in self._values)
            if shown != self._shown:
                self._console.print(self._line(), markup=False, highlight=False, soft_wrap=True)
            self._shown = shown

    def __rich__(self) -> Group:
        """The live display: what rich draws twice a second."""
        clock = self._clock
        head = Text.assemble((self.title, "bold"), "  " if self.title else "", (self._phase, "cyan"))
        bar = Table.grid(padding=(0, 2))
        done = f"step {clock.step:,} / {self.total_steps:,}"
        bar.add_row(ProgressBar(total=self.total_steps, completed=clock.step, width=32), done, *self._times())
        return Group(head, bar, Text(self._rates(), style="dim"), self._member_table())

    def _times(self) -> list[str]:
        left = self._clock.left(self.total_steps)
        return [
            f"{duration(self._clock.elapsed)} elapsed",
            f"{duration(left)} left" if left is not None else "",
        ]

    def _rates(self) -> str:
        rate = self._clock.rate
        if rate is None:
            return "no step yet"
        members = len(self.members)
        sequences = rate * members * self.sequences_per_step
        return f"{rate:,.1f} steps/s   {rate * members:,.0f} member-steps/s   {sequences:,.0f} sequences/s"

    def _member_table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("member")
        for name in ("loss", *self.headlines):
            table.add_column(name, justify="right", min_width=6)
        table.add_column("status")
        for label, (*numbers, status) in list(zip(self.members, self._values, strict=True))[:MOST_SHOWN]:
            style = "red" if status.startswith("diverged") else "green" if status == "done" else ""
            table.add_row(Text(label), *map(_number, numbers), Text(status, style=style))
        rest = self._values[MOST_SHOWN:]
        if rest:
            columns = list(zip(*rest, strict=True))
            table.add_row(f"{len(rest)} more: mean (min..max)", *map(_summary, columns[:-1]), _counts(columns[-1]))
        return table

    def _line(self) -> str:
        loss, *headlines, status = zip(*self._values, strict=True)
        parts = [f"step {self._clock.step}/{self.total_steps}"]
        parts += [f"loss {_range(loss)}"] if _known(loss).size else []
        named = zip(self.headlines, headlines, strict=True)
        parts += [f"{title.lower()} {_range(values)}" for title, values in named if _known(values).size]
        return "  ".join([*parts, _counts(status), self._rates(), *self._times()]).rstrip()


class _Clock:
    """Time since the start, and the recent rate of steps, from the first update on (not compilation)."""

    def __init__(self):
        self.start = self._last = time.monotonic()
        self.step, self.rate = 0, None
        self._counting = False

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.start

    def tick(self, step: int) -> None:
        now, steps = time.monotonic(), step - self.step
        if self._counting and steps > 0:
            rate = steps / max(now - self._last, 1e-9)
            self.rate = rate if self.rate is None else _FORGET * self.rate + (1 - _FORGET) * rate
        self._last, self.step, self._counting = now, step, True

    def left(self, total: int) -> float | None:
        """Seconds to go at the recent rate, None before it is known."""
        if self.rate is None:
            return None
        return max((total - self.step) / self.rate - (time.monotonic() - self._last), 0.0)


def _known(values) -> np.ndarray:
    return np.asarray([value for value in values if value is not None and np.isfinite(value)], dtype=float)


def _number(value) -> str:
    return "" if value is None else f"{value:.3f}"


def _summary(values) -> str:
    known = _known(values)
    return f"{known.mean():.3f} ({known.min():.2f}..{known.max():.2f})" if known.size else ""


def _range(values) -> str:
    known = _known(values)
    if not known.size:
        return "-"
    low, high = f"{known.min():.2f}", f"{known.max():.2f}"
    return low if low == high else f"{low}..{high}"


def _counts(status: Sequence[str]) -> str:
    words = [text.split()[0] for text in status]
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def duration(seconds: float) -> str:
    """Returns "3:07" or "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
