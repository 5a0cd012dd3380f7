"""Names made to deceive whoever reads them: no terminal, log, page or status is written raw."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click.testing
import dagster as dg
import pytest
import yaml
from markdown_it import MarkdownIt

from kraken_dagster.cli import common as cli_common
from kraken_dagster.cli.main import main
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.metrics import rawqc
from kraken_dagster.model.errors import ConfigError, KrakenError, SourceMissing
from kraken_dagster.model.printable import code_block, printable, printable_lines
from kraken_dagster.model.raw_file import Status, short_details
from kraken_dagster.orchestration.failures import failure_of_many, skip
from kraken_dagster.orchestration.metadata import log
from kraken_dagster.runtime.logs import quote_log_records
from kraken_dagster_tests.support.dagster_bench import Bench, hastened, install_search, raw_file

pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
]
HARMFUL = {
    "colour": "\x1b[31m",
    "title": "\x1b]0;owned\x07",
    "clear": "\x9b2J",
    "line": "\nINFO all is well",
    "return": "\rdone",
    "reversed": "\u202ewar.",
    "isolated": "\u2066x\u2069",
    "erased": "xx\x08\x08",
    "unseen": "\u200b\u2060\ufeff\u3164\ufe0f",
    "separator": "\u2028\u2029\x85",
    "no UTF-8": "\udcff",
}
MARKDOWN = ["[x](javascript:alert(1))", "<img src=x onerror=alert(1)>", "```", "`x`", "*x*"]
NAMES = [f"evil{text}.raw" for text in HARMFUL.values()] + [f"{text}.raw" for text in MARKDOWN]
INTO_MONGODB = [name for name in NAMES if "\udcff" not in name]
SOURCE = Path(cli_common.__file__).parents[1]


def unsafe(text: str, *, allowed: str = "\n") -> list[str]:
    """The characters of an output that a reader doesn't see as what they are."""
    unseen = "\u3164\ufe0f"
    return [c for c in text if c not in allowed and (not c.isprintable() or c in unseen)]


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_text_for_people_is_one_line_of_what_can_be_seen(text: str) -> None:
    shown = printable(text)
    assert unsafe(shown, allowed="") == []
    assert "\\" in shown
    assert printable(shown) == shown
    for kept in ("é\u0301", "日本語", "µ²", r"a\b", "a b"):
        assert printable(kept) == kept
    assert printable_lines(f"a{text}\n\tb").splitlines()[-1] == "\tb"
    assert unsafe(short_details(text)) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_part_of_an_error_is_raw(name: str) -> None:
    for error in (
        SourceMissing(name, file=name, expected=name, found=name, next_step=name),
        KrakenError(f"A column {name}", file=Path(name)),
    ):
        parts = (str(error), error.what, error.file, error.expected, error.found, error.next_step)
        assert [unsafe(part, allowed="") for part in parts if part] == [
            [] for part in parts if part
        ]
    assert str(ConfigError("a\nb")) == "a\nb."
    assert unsafe(str(failure_of_many([(name, name)], of=1).description)) == []
    assert unsafe(str(skip(name).skip_message), allowed="") == []


@pytest.mark.parametrize(
    "text", [*MARKDOWN, "```\n</code><img src=x>\n```", "a\n`````\nb", "\x1b[1m"]
)
def test_a_log_stays_in_its_block_of_markdown(text: str) -> None:
    (token,) = MarkdownIt().parse(code_block(text))
    assert (token.type, token.content) == ("fence", printable_lines(text) + "\n")
    (shown,) = MarkdownIt().parse(log(text).value)
    assert shown.type == "fence"


@pytest.fixture
def quoted_logs() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    quote_log_records()
    quote_log_records()
    yield
    logging.setLogRecordFactory(before)


def test_every_log_record_is_quoted_with_its_arguments_and_traceback(quoted_logs: None) -> None:
    written = io.StringIO()
    logger = logging.Logger("somebody's")
    logger.addHandler(logging.StreamHandler(written))
    for name in NAMES:
        logger.warning("left alone: %s", name)
        logger.warning(name, extra={"more": 1})
        try:
            raise RuntimeError(name)  # noqa: TRY301
        except RuntimeError:
            logger.exception("failed")
    logger.info("%s of %d", "text", 5)
    assert "Traceback" in written.getvalue()
    assert unsafe(written.getvalue()) == []


def test_a_line_break_in_a_name_forges_no_line_of_krakens_own(quoted_logs: None) -> None:
    record = logging.getLogRecordFactory()(
        "dagster", 20, str(SOURCE / "assets" / "x.py"), 1, "a\nINFO all is well", (), None
    )
    assert record.getMessage() == "a\\nINFO all is well"


@pytest.fixture
def bench(config: KrakenConfig, store, quoted_logs: None) -> Iterator[Bench]:
    instance = dg.DagsterInstance.ephemeral()
    yield Bench(hastened(config, copy_slots=50, files_per_run_from=0), store, instance)
    instance.dispose()


def test_a_folder_of_hostile_names_goes_through_dagster_and_the_commands(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install_search(bench.config, bench.store)
    folder = bench.services.instrument_folder("thermo1")
    for name in NAMES:
        raw_file(folder, name, name.encode("utf-8", "surrogateescape") * 100)
    reported = []
    requests = bench.requested("thermo1")
    assert len(requests) == len(INTO_MONGODB)
    for number, request in enumerate(requests):
        if number == 4:  # the others fail: nothing is there any more
            (tmp_path / "away").mkdir()
            for path in folder.iterdir():
                path.rename(tmp_path / "away" / path.name)
        result = bench.run(request)
        for entry in bench.instance.all_logs(result.run_id):
            reported += [entry.user_message, entry.dagster_event and entry.dagster_event.message]
    assert any(bench.status(name) is Status.ERROR for name in INTO_MONGODB)
    for sensor in ("thermo1_watcher", "cluster_jobs", "thermo1_archiver"):
        reported.append(bench.tick(sensor).skip_message or "")
    assert [text for text in reported if unsafe(text or "", allowed="\n\t")] == []
    output = capfd.readouterr()
    assert "evil" in output.err
    assert unsafe(re.sub(r"\x1b\[[0-9;]*m", "", output.out + output.err), allowed="\n\t") == []
    for record in (bench.file(name) for name in INTO_MONGODB):
        assert unsafe(record.status_details or "") == []
        assert [event for event in record.history if unsafe(event["reason"] or "")] == []
    _through_the_commands(bench, tmp_path)


def _through_the_commands(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "instruments.yaml"
    given = bench.config.model_dump(mode="json", exclude_unset=True)
    given["simulation"] = {"speed": 1.0}
    path.write_text(yaml.safe_dump(given))
    runner = click.testing.CliRunner()
    commands = [["status"], ["files"], ["doctor"], ["purge"], ["verify", "--all"]]
    for name in NAMES:
        commands += [["show", name], ["retry", name], ["restore", name, str(tmp_path / name)]]
        commands += [["verify", name], ["project", "preview", name, "thermo1"]]
        commands += [["files", "--instrument", name], [name], ["show", f"--{name}"]]
        commands += [["settings", "show", name], ["project", "show", name]]
    for command in commands:
        result = runner.invoke(main, ["--config", str(path), *command])
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        assert unsafe(result.output) == [], command
    answer = runner.invoke(main, ["--config", str(path), "files", "--json"])
    assert unsafe(answer.output) == []
    assert set(INTO_MONGODB) <= {item["id"] for item in json.loads(answer.stdout)}


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_of_that_name_or_with_such_keys_is_told_quoted(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    runner = click.testing.CliRunner()
    for text in (None, "a: [", f"{json.dumps(name)}: {json.dumps(name)}"):
        if text is not None:
            path.write_text(text)
        result = runner.invoke(main, ["--config", str(path), "status"])
        assert result.exit_code == 1
        assert unsafe(result.output) == []


def test_programs_of_jobs_tell_of_their_arguments_quoted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in NAMES:
        with pytest.raises(SystemExit):
            rawqc.main(["--no-such", name])
        assert rawqc.main([str(tmp_path / name), str(tmp_path / "out")]) != 0
    assert unsafe("".join(capsys.readouterr())) == []


def test_a_fault_in_kraken_is_a_traceback_that_is_quoted_too() -> None:
    code = (
        "from kraken_dagster.runtime.logs import print_uncaught_quoted\n"
        "print_uncaught_quoted()\nraise RuntimeError('x\\x1b[31m\\u202e')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError: x\\x1b[31m\\u202e" in done.stderr
    assert unsafe(done.stderr) == []


def test_there_is_one_way_to_print_and_one_to_show_a_text_in_dagit() -> None:
    ways = {
        # Beside the one way: lines for a shell, and a token, exactly.
        "click.echo(": ["common.py", "completion.py", "env.py", "token.py"],
        "click.secho(": [],
        "MetadataValue.text(": ["metadata.py"],
        "MetadataValue.path(": ["metadata.py"],
        "MetadataValue.md(": ["metadata.py"],
        "dg.SkipReason(": ["failures.py"],
    }
    files = [path for path in SOURCE.rglob("*.py") if "simulation" not in path.parts]
    for way, allowed in ways.items():
        used = [path.name for path in files if way in path.read_text(encoding="utf-8")]
        assert sorted(used) == allowed, way
