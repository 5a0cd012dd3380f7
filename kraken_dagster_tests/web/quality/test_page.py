"""Quality control on the page, as it is served: what it says, and what an operator says there."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlencode

import jsonschema
import pytest

from kraken_dagster.config.dagit import Role
from kraken_dagster.config.quality_rules import QcHint
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.quality import Outcome
from kraken_dagster.quality.hints import hints_of, in_words
from kraken_dagster.quality.history import histories, most_often_out
from kraken_dagster.runtime.services import Services, utc_now
from kraken_dagster.store.connection import connect
from kraken_dagster.web.api import examples
from kraken_dagster.web.quality.drawing import polylines, scale_of, steps
from kraken_dagster_tests.metrics.test_mzqc import SCHEMA
from kraken_dagster_tests.support.helpers import database_uri
from kraken_dagster_tests.web.laboratory import OpenPage, served
from kraken_dagster_tests.web.quality.runs import (
    COUNT,
    EXCLUDED,
    HOSTILE,
    QC,
    fill_quality,
    name_of,
)

pytestmark = pytest.mark.timeout(1800)
CHART = {"instrument": "thermo1", "class": "hela", "settings": "dia:1", "metric": "ms1_signal"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, server_uri: str) -> Iterator[OpenPage]:
    home = tmp_path_factory.mktemp("quality")
    places = {name: str(home / name) for name in ("instruments", "backup", "output")}
    config = KrakenConfig.model_validate(
        {
            "home": home / "home",
            "locations": places,
            "instruments": {"thermo1": {"type": "thermo"}, "bruker1": {"type": "bruker"}},
            "qc": QC,
        }
    )
    with closing(connect(database_uri(server_uri, "quality_page"))) as store:
        store.prepare()
        now = utc_now()
        services = Services(config=config, store=store, engines={}, now=lambda: now)
        fill_quality(services, now)
        with served(services, lives=False) as page:
            yield page


def test_rest_tells_the_verdicts_that_the_page_shows(page: OpenPage) -> None:
    def told(**query: object) -> list[dict[str, object]]:
        answer = page.get("/api/v1/quality/verdicts", **query)
        assert answer.status == 200, answer.text
        found: list[dict[str, object]] = json.loads(answer.content)["data"]
        return found

    runs = told(instrument="thermo1", limit=5)
    assert runs[0]["file"] == name_of("thermo1", COUNT - 1)
    assert len(runs) == 5
    assert set(runs[0]) == set(examples.VERDICTS["data"][0])
    assert str(runs[0]["words"]).endswith(": a column that dies?")
    of_file = told(file=name_of("thermo1", COUNT - 1))
    assert of_file[-1] == runs[0]
    assert told(instrument="thermo1", sample_class="other") == []


def say(page: OpenPage, path: str, role: Role = Role.OPERATOR, **form: object) -> object:
    body = urlencode(form, doseq=True)
    return page.send("POST", path, ("Origin", page.origin), page.login(role), body=body)


def test_the_instruments_stand_there_with_sparklines_and_last_verdict(page: OpenPage) -> None:
    text = page.get("/quality").text
    assert text.count('<svg class="spark"') == 2 * len(QC["metrics"])
    assert "a column that dies?" in text
    assert "spray?" not in text  # says less than the hint before it
    assert "What is out most often" not in text


def test_one_instrument_has_a_heat_map_and_what_is_out_most_often(page: OpenPage) -> None:
    text = page.get("/quality", instrument="thermo1").text
    assert text.count('<rect class="v ') == COUNT
    named = re.findall(r"<tr><th scope=\"row\">([^<]+)</th><td>(\d+)</td>", text)
    assert {name for name, _ in named[:2]} == {"fwhm rt", "ms1 signal"}
    assert all(int(count) >= 4 for _, count in named[:2])
    assert "bruker1_hela" not in text


def test_two_instruments_stand_beside_each_other(page: OpenPage) -> None:
    text = page.send("GET", "/quality?instrument=thermo1&instrument=bruker1").text
    assert text.count('<svg class="heat"') == 2
    assert name_of("bruker1", COUNT - 1) in text


def test_a_chart_shows_limits_guide_set_what_was_said_and_what_is_flagged(page: OpenPage) -> None:
    text = page.get("/quality/chart", **CHART).text
    marks = re.findall(r'<circle class="p (\w+)"[^>]*data-run="([^"]+)"', text)
    assert [name for _, name in marks] == [name_of("thermo1", n) for n in range(COUNT)]
    kinds = {name: kind for kind, name in marks}
    assert kinds[name_of("thermo1", EXCLUDED)] == "excluded"
    assert {kinds[name_of("thermo1", n)] for n in range(COUNT - 5, COUNT)} == {"out_of_control"}
    assert '<rect class="guide"' in text
    assert '<g class="note">' in text
    assert "Newest limits from 20 runs, wide because they are few" in text
    assert "false alarms a month are expected" in text
    assert "CUSUM" in text
    assert HOSTILE not in text
    assert "&lt;img src=x" in text


def test_a_metric_that_judges_no_run_is_charted_too_and_a_missing_value_is_no_zero(
    page: OpenPage,
) -> None:
    text = page.get("/quality/chart", **{**CHART, "metric": "irt_slope"}).text
    assert "Runs are not judged by this metric" in text
    missing = page.get("/quality/chart", **{**CHART, "metric": "proteins"}).text
    assert missing.count("data-run=") == COUNT - 1
    fixed = page.get("/quality/chart", **{**CHART, "metric": "fwhm_rt"}).text
    assert "bound 9" in fixed


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": "$where"},
        {"metric": "raw_file"},
        {"settings": "dia"},
        {"settings": "dia:99999999999"},
        {"instrument": "nothing"},
        {"class": "../.."},
    ],
)
def test_what_is_not_there_is_told(page: OpenPage, changes: dict[str, str]) -> None:
    assert page.get("/quality/chart", **{**CHART, **changes}).status == 404


def test_a_selection_is_taken_away_as_mzqc(page: OpenPage) -> None:
    answer = page.get("/quality/mzqc", instrument="thermo1")
    document = json.loads(answer.content)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft7Validator)
    assert len(document["mzQC"]["setQualities"]) == 1
    assert page.get("/quality/mzqc", instrument="nothing").status == 404


def test_a_file_says_in_words_what_is_out(page: OpenPage) -> None:
    text = page.get("/file", id=name_of("thermo1", COUNT - 1)).text
    found = re.search(r"<strong><bdi>([^<]+)</bdi></strong></p>", text)
    assert found is not None
    assert re.search(r"ms1 signal \d\d % below", found[1])
    assert re.search(r"fwhm rt \d\d % above", found[1])
    assert found[1].endswith(": a column that dies?")


def test_only_an_operator_says_something_and_it_can_be_taken_back(page: OpenPage) -> None:
    quality = page.feed.services.store.quality
    form = {
        "instrument": "bruker1",
        "kind": "source",
        "text": "cleaned",
        "back": "/quality/chart?x",
    }
    assert say(page, "/quality/annotate", Role.VIEWER, **form).status == 403
    assert quality.annotations("bruker1") == []
    answer = say(page, "/quality/annotate", begins_at="2026-03-01T12:00", **form)
    assert answer.status == 200
    assert 'href="/quality/chart?x"' in answer.text
    (made,) = quality.annotations("bruker1")
    assert (made.text, made.begins_at.hour) == ("cleaned", 12)
    assert "on the page" in made.by
    assert say(page, "/quality/withdraw", id=made.id).status == 200
    assert quality.annotations("bruker1") == []
    assert say(page, "/quality/withdraw", id=made.id).status == 409


def test_a_metric_of_a_run_is_excluded(page: OpenPage) -> None:
    run, quality = name_of("bruker1", 3), page.feed.services.store.quality
    form = {"run": run, "metric": "ms1_signal", "why": "a bubble"}
    assert say(page, "/quality/exclude", **form).status == 200
    (made,) = quality.exclusions([run])
    assert (made.metric, made.why) == ("ms1_signal", "a bubble")
    assert "already" in say(page, "/quality/exclude", **form).text
    assert say(page, "/quality/exclude", **{**form, "run": "nothing.raw"}).status == 409


def test_a_guide_set_is_made_of_the_chosen_runs_and_used_when_judged_anew(page: OpenPage) -> None:
    quality = page.feed.services.store.quality
    runs = [name_of("bruker1", number) for number in range(2, 32)]
    form = {"run": runs, "settings": "dia:1", "why": "a good month"}
    assert say(page, "/quality/guide-set", **{**form, "run": runs[:4]}).status == 409
    assert say(page, "/quality/guide-set", **form).status == 200
    (made,) = quality.guide_sets("bruker1")
    assert made.runs == tuple(runs)
    newest = quality.newest("bruker1", limit=1)[0]
    assert newest.guide_set is None
    assert "verdicts changed" in say(page, "/quality/evaluate", instrument="bruker1").text
    assert quality.newest("bruker1", limit=1)[0].guide_set == made.id
    assert len(quality.verdicts_of(newest.raw_file)) == 2


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("annotate", {"instrument": "nothing", "kind": "column", "text": "x"}),
        ("annotate", {"instrument": "thermo1", "kind": "nothing", "text": "x"}),
        ("annotate", {"instrument": "thermo1", "kind": "column", "text": " "}),
        ("annotate", {"instrument": "thermo1", "kind": "column", "text": "x", "begins_at": "now"}),
        ("evaluate", {"instrument": "nothing"}),
        ("guide-set", {"why": "none"}),
    ],
)
def test_what_can_not_be_said_is_told_and_leads_back_to_the_page_only(
    page: OpenPage, path: str, form: dict[str, str]
) -> None:
    answer = say(page, f"/quality/{path}", back="https://evil.example", **form)
    assert answer.status == 409
    assert "evil" not in answer.text


def test_a_metric_with_one_value_and_gaps_can_be_drawn() -> None:
    scale = scale_of([5.0, 5.0, None], 100, 0)
    assert scale.at(5.0) == 50
    assert scale_of([], 100, 0).ticks()
    logs = scale_of([1e3, 1e6, 0.0, None], 100, 0, log=True)
    assert 0 < logs.at(1e6) < logs.at(1e3) < 100
    assert scale_of([2e3, 4e4], 100, 0, log=True).ticks() == [2e3, 5e3, 1e4, 2e4, 5e4]
    assert scale_of([1.0, 1e6], 100, 0, log=True).ticks()[:2] == [1, 10]
    assert scale_of([101.0, 119.0], 100, 0, log=True).ticks() == [100, 110, 120]
    assert polylines([1, 2, 3], [1.0, None, 3.0]) == ["1,1", "3,3"]
    assert steps([10, 20], [5.0, None], 5) == ["5,5 15,5"]


def test_hints_are_the_sites_and_the_most_telling_ones(page: OpenPage) -> None:
    (history,) = histories(
        page.feed.services.store.quality.newest("thermo1", limit=COUNT), runs=COUNT
    )
    assert history.newest.outcome is Outcome.OUT_OF_CONTROL
    low_only = QcHint(metrics={"ms1_signal": "low"}, text="spray?")
    high = QcHint(metrics={"ms1_signal": "high"}, text="never")
    assert hints_of(history.newest, [high, low_only]) == ["spray?"]
    assert hints_of(history.newest, []) == []
    assert in_words(history.verdicts[26], [low_only]) is None
    causes = most_often_out(history)
    counts = [item.out_of_control + item.look for item in causes]
    assert counts == sorted(counts, reverse=True)
    assert causes[-1].share == 100
