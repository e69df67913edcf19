"""Stopping at the next safe point."""

import signal
import threading
from typing import Any


class GracefulStop:
    """Context in which SIGTERM and Ctrl-C only set `requested`; a second Ctrl-C interrupts at once.

    Python delivers signals to the main thread alone; elsewhere the context does nothing. The handlers
    found at entry are put back at exit. Of contexts in one another all notice.
    """

    def __init__(self):
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            for number in self._before:
                signal.signal(number, self._request)
            self.requested = any(outer.requested for outer in self._outer())
        return self

    def _outer(self) -> list["GracefulStop"]:
        """The context around this one, if any."""
        owners = [getattr(handler, "__self__", None) for handler in self._before.values()]
        return [owner for owner in owners if isinstance(owner, GracefulStop)]

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python cannot be put back, the default can
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _request(self, number: int, frame) -> None:
        if number == signal.SIGINT and self.requested:
            raise KeyboardInterrupt
        self._notice()

    def _notice(self) -> None:
        self.requested = True
        for outer in self._outer():
            outer._notice()
