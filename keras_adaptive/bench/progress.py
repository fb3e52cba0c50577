"""A bar that shows how far a measurement is."""

import sys

WIDTH = 30


class Bar:
    """Written over and over on one line of stderr, so that what is printed stays a clean table.

    Args:
        total: how often `tick` will be called.
    """

    def __init__(self, total: int):
        self.total, self.done, self.shown = total, 0, 0

    def tick(self, what: str) -> None:
        """One more of the total is done."""
        self.done += 1
        filled = WIDTH * self.done // self.total
        self._show(f"[{'=' * filled}{'.' * (WIDTH - filled)}] {self.done}/{self.total} {what}")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        # Leaves an empty line.
        self._show("")
        sys.stderr.write("\r")

    def _show(self, text):
        sys.stderr.write("\r" + text.ljust(self.shown))
        sys.stderr.flush()
        self.shown = len(text)
