"""Jobs that are asked for again: each command that a message advises does what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kraken_dagster.config.instruments import OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import KrakenError, OutputExists
from kraken_dagster.model.raw_file import Status
from kraken_dagster.operations.instruments.retire import retire
from kraken_dagster.operations.retry import retry
from kraken_dagster.quant.submit import submit_jobs
from kraken_dagster.runtime.services import Services
from kraken_dagster_tests.support.fakes import custom_settings
from kraken_dagster_tests.support.helpers import backed_up, each, tick_until_idle

NAME = "x.raw"
WRITES = 'date +%N > "$OUTPUT_PATH/result.txt"'
HELPFUL = [mode for mode in OutputExistsMode if mode is not OutputExistsMode.RAISE]


def _ask(
    services: Services, mode: OutputExistsMode = OutputExistsMode.RAISE, slots: int = 2
) -> Any:
    return submit_jobs(services, NAME, run_id="hand", slots=each(slots), output_exists_mode=mode)


def _status(services: Services) -> tuple[Status, str | None]:
    raw_file = services.store.raw_files.get(NAME)
    return raw_file.status, raw_file.status_details


def _folder(services: Services) -> Path:
    return services.result_folder(services.store.jobs.of(NAME)[0])


@pytest.fixture
def done(services: Services) -> Services:
    """A file that has ended well on the engine of this machine."""
    backed_up(services, "thermo1", NAME)
    custom_settings(services, "s", WRITES)
    tick_until_idle(services)
    assert _status(services)[0] is Status.DONE
    return services


@pytest.mark.parametrize("mode", HELPFUL)
def test_what_a_refusal_over_a_done_file_advises_is_done(
    done: Services, mode: OutputExistsMode
) -> None:
    before = (_folder(done) / "result.txt").read_text()
    with pytest.raises(OutputExists, match=f"{mode.value}`"):
        _ask(done)
    assert _status(done)[0] is Status.DONE
    retry(done, NAME, asked_by="somebody", mode=mode)
    tick_until_idle(done)
    assert _status(done)[0] is Status.DONE
    results = [path.read_text() for path in _folder(done).parent.rglob("result.txt")]
    assert before in results
    assert len(results) == (1 if mode is OutputExistsMode.ASSOCIATE else 2)


@pytest.mark.parametrize("mode", HELPFUL)
def test_a_request_by_run_config_is_done_on_this_machine(
    done: Services, mode: OutputExistsMode
) -> None:
    _ask(done, mode)
    tick_until_idle(done)
    assert _status(done)[0] is Status.DONE


@pytest.mark.parametrize("mode", HELPFUL)
def test_what_waits_for_a_slot_keeps_the_mode_in_which_it_was_asked_for(
    done: Services, mode: OutputExistsMode
) -> None:
    _ask(done, mode, slots=0)
    tick_until_idle(done)  # the sensors' runs have the configured one, `raise`
    assert _status(done) == (Status.DONE, None)
    assert done.store.raw_files.get(NAME).output_exists_mode is None


def test_a_result_of_a_local_job_that_mongodb_has_lost_is_associated(done: Services) -> None:
    """Its exit code is in the job's own folder, and not in the result's."""
    done.store.jobs._collection.delete_many({})
    _ask(done, OutputExistsMode.ASSOCIATE)
    tick_until_idle(done)
    assert _status(done)[0] is Status.DONE
    assert len(list((_folder(done).parent).rglob("result.txt"))) == 1


@pytest.mark.parametrize("mode", [OutputExistsMode.ADD, OutputExistsMode.OVERWRITE])
def test_a_strangers_result_that_can_not_be_associated_leads_on_to_another_mode(
    services: Services, mode: OutputExistsMode
) -> None:
    raw_file = backed_up(services, "thermo1", NAME)
    custom_settings(services, "s", WRITES)
    root = services.config.locations.output.path
    folder = root / f"_FALLBACK/{raw_file.year_month}/out_{NAME}/custom"
    folder.mkdir(parents=True)
    (folder / "theirs.txt").write_text("a stranger's")
    with pytest.raises(OutputExists):
        tick_until_idle(services)
    assert _status(services)[0] is Status.ERROR
    retry(services, NAME, asked_by="somebody", mode=OutputExistsMode.ASSOCIATE)
    with pytest.raises(OutputExists):
        tick_until_idle(services)
    status, details = _status(services)
    assert status is Status.ERROR
    assert "Nothing says that the result is complete" in str(details)
    assert f"{mode.value}`" in str(details)
    retry(services, NAME, asked_by="somebody", mode=mode)
    tick_until_idle(services)
    assert _status(services)[0] is Status.DONE
    assert [item.read_text() for item in folder.parent.rglob("theirs.txt")] == ["a stranger's"]


def test_a_run_that_dies_before_it_submits_does_not_cost_the_file_its_end(
    done: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(done.store.jobs, "intend", die)
    with pytest.raises(Killed):
        _ask(done, OutputExistsMode.ADD)
    monkeypatch.undo()
    assert _status(done)[0] is Status.QUEUED_FOR_QUANTING
    assert done.config.locations.software is not None
    program = done.config.locations.software.path / "s"
    away = program.rename(program.with_name("away"))
    try:
        with pytest.raises(KrakenError):
            submit_jobs(done, NAME, run_id="sensor", slots=each(2), by_hand=False)
    finally:
        away.rename(program)
    assert _status(done)[0] is Status.DONE


def test_a_done_file_that_waits_once_more_is_done_when_its_instrument_is_retired(
    done: Services,
) -> None:
    _ask(done, OutputExistsMode.ADD, slots=0)
    assert _status(done)[0] is Status.QUEUED_FOR_QUANTING
    given = done.config.model_dump(mode="json", exclude_unset=True)
    del given["instruments"]["thermo1"]
    without = replace(done, config=KrakenConfig.model_validate(given))
    retire(without, "thermo1", by="somebody")
    status, details = _status(done)
    assert status is Status.DONE
    assert "retired by somebody before it was processed again" in str(details)
    assert done.store.raw_files.get(NAME).asked_again is None
