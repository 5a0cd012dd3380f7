"""Connects to MongoDB and puts the collections together."""

from datetime import UTC, datetime
from typing import Any

from pymongo import IndexModel, MongoClient
from pymongo.errors import ConfigurationError, InvalidURI, OperationFailure

from kraken_dagster.model.errors import ConfigError
from kraken_dagster.store import alerts, api_tokens, listing, quality
from kraken_dagster.store.alert_facts import AlertFacts
from kraken_dagster.store.alerts import Alerts, Outbox
from kraken_dagster.store.api_tokens import ApiTokens
from kraken_dagster.store.catalog import catalog, settings_versions
from kraken_dagster.store.catalog.catalog import Catalog
from kraken_dagster.store.changes import Changes
from kraken_dagster.store.errors import translated
from kraken_dagster.store.exclusive_runs import ExclusiveRuns
from kraken_dagster.store.health import HealthRecords
from kraken_dagster.store.instances import Instances, Ticks
from kraken_dagster.store.instruments import Instruments
from kraken_dagster.store.listing import Listing
from kraken_dagster.store.markers import Markers
from kraken_dagster.store.quality import Quality
from kraken_dagster.store.quant import jobs, metrics
from kraken_dagster.store.quant.input_digests import Inputs
from kraken_dagster.store.quant.jobs import QuantJobs
from kraken_dagster.store.quant.metrics import Metrics
from kraken_dagster.store.raw_files import collection as raw_files
from kraken_dagster.store.raw_files import offsite, retention
from kraken_dagster.store.raw_files.bulk import Bulk
from kraken_dagster.store.raw_files.collection import RawFiles
from kraken_dagster.store.raw_files.members import MemberLists
from kraken_dagster.store.raw_files.offsite import OffsiteCopies
from kraken_dagster.store.raw_files.raw_metrics import RawMetrics
from kraken_dagster.store.raw_files.retention import Retention
from kraken_dagster.store.raw_files.verifications import Verifications
from kraken_dagster.store.uri import EXPECTED

DEFAULT_DATABASE = "krakendb"
# MongoDB's codes: other options, another key of that name, two documents with one key.
_INDEX_IN_THE_WAY = (85, 86, 11000)
_INDEXES = {
    "raw_file": (*raw_files.INDEXES, *retention.INDEXES, *offsite.INDEXES),
    "quant_job": jobs.INDEXES,
    "metrics": metrics.INDEXES,
    "settings": settings_versions.INDEXES,
    "project_settings": catalog.PROJECT_SETTINGS_INDEXES,
    "offsite_object": offsite.OBJECT_INDEXES,
    **quality.INDEXES,
    **alerts.INDEXES,
    **api_tokens.INDEXES,
}


@translated
class Store:
    """Everything that Kraken knows. Safe to share between threads, not between processes."""

    def __init__(self, client: "MongoClient[dict[str, Any]]", uri: str) -> None:
        self.uri = uri  # with its password
        self._client = client
        self._database = client.get_default_database(DEFAULT_DATABASE)
        members = MemberLists(self._database["raw_file_members"])
        self.raw_files = RawFiles(self._database["raw_file"], members)
        self.retention = Retention(self._database["raw_file"], members)
        self.offsite = OffsiteCopies(self._database, members)
        self.verifications = Verifications(self._database["verification"])
        self.bulk = Bulk(self._database, members)
        self.changes = Changes(self._database)
        self.listing = Listing(self._database)
        self.api_tokens = ApiTokens(self._database)
        self.jobs = QuantJobs(self._database["quant_job"])
        self.metrics = Metrics(self._database["metrics"])
        self.quality = Quality(self._database)
        self.raw_metrics = RawMetrics(self._database["raw_file"], self.metrics)
        self.exclusive_runs = ExclusiveRuns(self._database["errand"])
        self.instances = Instances(self._database["instance"])
        self.ticks = Ticks(self._database["tick"])
        self.instruments = Instruments(self._database, members)
        self.inputs = Inputs(self._database["input_digest"])
        self.catalog = Catalog(self._database)
        self.markers = Markers(self._database["store"])
        self.health = HealthRecords(self._database["kraken_status"])
        self.alerts = Alerts(self._database)
        self.outbox = Outbox(self._database["alert_message"])
        self.alert_facts = AlertFacts(self._database)

    def prepare(self) -> None:
        """Creates the indexes, and the built-in settings in a database without any."""
        for name, indexes in _INDEXES.items():
            for index in indexes:
                self._create_index(name, index)
        if self._database["raw_file"].find_one({}, {"_id": 1}) is None:  # it takes no time yet
            for index in listing.INDEXES:
                self._create_index("raw_file", index)
        self.catalog.seed(now=datetime.now(UTC))

    def _create_index(self, collection: str, index: IndexModel) -> None:
        """One that another program has made with other options will do; one that what stands there
        forbids is done without, since nobody can work before it is mended."""
        try:
            self._database[collection].create_indexes([index])
        except OperationFailure as error:
            if error.code not in _INDEX_IN_THE_WAY:
                raise

    def server_time(self) -> datetime:
        """The server's clock, UTC."""
        answer: datetime = self._client.admin.command("hello")["localTime"]
        return answer.replace(tzinfo=UTC) if answer.tzinfo is None else answer

    def close(self) -> None:
        self._client.close()


def connect(uri: str, *, timeout_s: float = 5.0) -> Store:
    """A client of the database that the URI names, `krakendb` if it names none.

    Nothing is sent before the first use.

    Raises:
        ConfigError: the URI can't be understood.
    """
    milliseconds = int(timeout_s * 1000)
    # What is acknowledged must not be rolled back when a replica set changes its primary.
    concern: dict[str, Any] = {} if "w=" in uri else {"w": "majority"}
    try:
        client: MongoClient[dict[str, Any]] = MongoClient(
            uri,
            appname="kraken-dagster",
            tz_aware=True,
            tzinfo=UTC,
            journal=True,
            **concern,
            wTimeoutMS=30_000,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=30_000,
            retryWrites=False,
        )
    except (ConfigurationError, InvalidURI, ValueError) as error:
        raise ConfigError(
            "`mongodb.uri` can't be understood",
            expected=EXPECTED,
            # Not its text: pymongo quotes parts of the URI, and one of them may be the password.
            found=type(error).__name__,
            next_step="correct it in instruments.yaml.",
        ) from None
    return Store(client, uri)
