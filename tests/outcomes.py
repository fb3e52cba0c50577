"""Records the outcomes of the tests behind the table of conformance, for tests/conformance.py."""

import json
import os
from pathlib import Path

import worlds

FOLDER = "KERAS_ADAPTIVE_OUTCOMES"


class Outcomes:
    """Collects the outcomes of one process, if the environment names a folder to write them to."""

    def __init__(self):
        self._cells = []

    def note(self, item, report):
        """After each phase of a test."""
        columns = [mark.args[0] for mark in item.iter_markers("column")]
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if not columns or case is None or (report.when != "call" and report.passed):
            return
        if not case.optimizer.__module__.startswith("keras_adaptive"):
            # Keras's own class is in some tests to fail them.
            return
        outcome = "failed" if hasattr(report, "wasxfail") else report.outcome
        reason = report.longrepr[2].removeprefix("Skipped: ") if outcome == "skipped" else ""
        for column in columns:
            self._cells.append([case.optimizer.__name__, column, item.nodeid, outcome, reason])

    def write(self):
        """At the end of the process."""
        if FOLDER in os.environ and self._cells:
            folder = Path(os.environ[FOLDER])
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{worlds.current()}-{os.getpid()}.json"
            path.write_text(json.dumps({"world": worlds.current(), "cells": self._cells}))
