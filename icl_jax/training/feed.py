"""What the host feeds: made for the next chunk while the devices work on this one."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from icl_jax.training.population import Population


class Feeder:
    """Gives each chunk up to the last step what its source feeds. Where nothing is fed it does nothing."""

    def __init__(self, population: Population, num_steps: int):
        self._population, self._num_steps = population, num_steps
        self._pool = ThreadPoolExecutor(1, "feed") if population.program.source.is_fed else None
        self._coming: dict[int, Future] = {}

    def look(self, step: int) -> Any:
        """Returns what the chunk that starts at a step is fed, which `take` will give."""
        if self._pool is None:
            return None
        if step not in self._coming:
            self._coming = {step: self._pool.submit(self._population.feed, step)}
        return self._coming[step].result()

    def take(self, step: int) -> Any:
        """Returns what the chunk that starts at a step is fed, and begins with the one after it."""
        fed = self.look(step)
        after = step + self._population.steps
        if self._pool is not None and after < self._num_steps:
            self._coming = {after: self._pool.submit(self._population.feed, after)}
        return fed
