"""The run launcher that `dagster.yaml` names: Dagster's own, but a slow launch holds up no other.

Dagster's daemon launches what is queued side by side, and then waits for the slowest before it
looks at the queue again: a code server that gives no answer would hold up every instrument.
"""

import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

import dagster as dg

from kraken_dagster.orchestration import dagster_internals

_HOLDS_UP_S = 5.0
_NOT_BEGUN = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)


class PatientRunLauncher(dg.DefaultRunLauncher):
    """A launch that takes longer than a few seconds goes on in a thread of its own.

    One that fails later fails its run, and one that is never answered leaves it to
    `run_monitoring`, like every run that doesn't begin.
    """

    def launch_run(self, context: Any) -> None:
        """
        Raises:
            Exception: whatever is wrong with a launch that fails at once.
        """
        launched: Future[None] = Future()
        launch = partial(_settle, launched, partial(super().launch_run, context))
        threading.Thread(target=launch, name="launch", daemon=True).start()
        try:
            launched.result(_HOLDS_UP_S)
        except TimeoutError:
            if launched.done():  # it is the launch's own
                raise
            launched.add_done_callback(partial(self._told_late, context.dagster_run.run_id))

    def _told_late(self, run_id: str, launched: "Future[None]") -> None:
        """A run that couldn't be launched after all has failed, unless it has begun.

        One whose code server has not answered in time may yet begin: its process is slow to start
        on a busy machine.
        """
        error = launched.exception()
        run = self._instance.get_run_by_id(run_id)
        if error is None or run is None or run.status not in _NOT_BEGUN:
            return
        reported = f"{type(error).__name__}: {error}"
        if isinstance(error, dagster_internals.DagsterUserCodeUnreachableError):
            self._instance.report_engine_event(f"The launch was not answered: {reported}", run)
        else:
            self._instance.report_run_failed(run, f"The run could not be launched: {reported}")


def _settle(launched: "Future[None]", launch: partial[None]) -> None:
    try:
        launched.set_result(launch())
    except BaseException as error:  # noqa: BLE001
        launched.set_exception(error)
