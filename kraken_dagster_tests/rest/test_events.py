"""Events: what has changed since."""

from kraken_dagster.runtime.services import Services
from kraken_dagster.web.api.changes import changes_since
from kraken_dagster.web.feed import Feed
from kraken_dagster_tests.web.laboratory import add


def test_events_name_the_files_that_have_changed(services: Services) -> None:
    feed = Feed(services)
    feed.refresh()
    event, _, place = changes_since(feed, "")
    assert event is None
    add(feed.services, "arrived.raw", feed.services.now())
    feed.refresh()
    event, data, after = changes_since(feed, place)
    assert (event, data) == ("files", {"ids": ["arrived.raw"]})
    assert changes_since(feed, after)[0] is None
    for lost in ("nonsense", f"{'0' * 8}-1", place.replace("-", "-x"), "\0"):
        assert changes_since(feed, lost)[0] == "reset"
