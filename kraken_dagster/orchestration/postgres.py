"""Dagster's storage on PostgreSQL, over connections that are kept.

Named in `dagster.yaml`; needs the extra `postgres`.
"""

import os
from functools import cache
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine
from sqlalchemy import Engine

_KEPT = 2
_MORE_AT_ONCE = 20
_RECYCLED_AFTER_S = 3600


class PooledPostgresStorage(DagsterPostgresStorage):
    """Like `dagster-postgres`, which opens a connection for each statement outside of Dagit.

    All instances of Dagster in a process share its connections. One that was lost, since the server
    was restarted, is made anew. With `auth_provider`, whose passwords change, nothing is kept.
    """

    def __init__(self, *args: Any, token_provider: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, token_provider=token_provider, **kwargs)
        if token_provider is None:
            for storage in (self.run_storage, self.event_log_storage, self.schedule_storage):
                # Not `optimize_for_webserver`: its connections are not tried before they are used,
                # and each instance of Dagster would have its own.
                storage._engine = _engine(self.postgres_url)  # type: ignore[attr-defined]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> "PooledPostgresStorage":
        plain = DagsterPostgresStorage.from_config_value(inst_data, config_value)
        return cls(
            plain.postgres_url,
            plain.should_autocreate_tables,
            inst_data,
            token_provider=plain.run_storage._token_provider,  # type: ignore[attr-defined]
        )


@cache
def _engine(url: str) -> Engine:
    engine = create_pg_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=_KEPT,
        max_overflow=_MORE_AT_ONCE,
        pool_recycle=_RECYCLED_AFTER_S,
        pool_pre_ping=True,
    )
    # A child must not talk over its parent's connections, nor close them.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine
