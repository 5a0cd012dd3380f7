"""What all open browsers ask for at once is made once, whoever asks, and however they take it."""

import gzip
import threading

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from kraken_dagster.web.once import Once


def _asked(encoding: str = "gzip") -> Request:
    return Request({"type": "http", "headers": [(b"accept-encoding", encoding.encode())]})


def test_an_answer_is_made_and_packed_once_for_all_who_ask_meanwhile() -> None:
    once, made, answers = Once(), [], []
    all_ask = threading.Barrier(8)

    def make() -> Response:
        made.append(1)
        return HTMLResponse("<p>files</p>" * 200, headers={"X-Total": "7"})

    def ask() -> None:
        all_ask.wait(60)
        answers.append(once.answer(_asked(), "fleet", make))

    askers = [threading.Thread(target=ask) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(made) == 1
    assert {gzip.decompress(bytes(item.body)) for item in answers} == {b"<p>files</p>" * 200}
    assert len({id(item.raw_headers) for item in answers}) == 8  # each is added to on its way
    plain = once.answer(_asked("identity"), "fleet", make)
    assert plain.body == b"<p>files</p>" * 200
    assert (plain.headers["X-Total"], plain.headers["content-length"]) == ("7", "2400")
    assert len(made) == 1


def test_what_fails_or_is_large_is_not_kept() -> None:
    once, made = Once(), []

    def fail() -> Response:
        raise ValueError("a view is wrong")

    def large() -> Response:
        made.append(1)
        return HTMLResponse("x" * 1_000_001)

    with pytest.raises(ValueError, match="a view is wrong"):
        once.answer(_asked(), "one", fail)
    assert once.answer(_asked(), "one", large).status_code == 200
    assert once.answer(_asked(), "one", large).status_code == 200
    assert len(made) == 2


def test_another_question_gets_another_answer() -> None:
    once = Once()
    answers = [once.answer(_asked(), n, lambda n=n: HTMLResponse(str(n))) for n in range(100)]
    assert [bytes(item.body) for item in answers] == [str(n).encode() for n in range(100)]
