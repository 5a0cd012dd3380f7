"""The process of the code server; `kraken up` starts it, and starts it again."""

import logging
import os
import sys
import threading
from pathlib import Path

import click
from dagster import DagsterInstance

from kraken_dagster.operations.code_server.proxy import KeepingProxy
from kraken_dagster.orchestration.dagster_internals import (
    DagsterGrpcServer,
    FuturesAwareThreadPoolExecutor,
    setup_interrupt_handlers,
)
from kraken_dagster.runtime.logs import quote_log_records


@click.command()
@click.option("--socket", type=click.Path(path_type=Path), required=True)
@click.option("--location-name", required=True)
@click.option("--max-workers", type=int, envvar="DAGSTER_CODE_SERVER_MAX_WORKERS")
def main(socket: Path, location_name: str, max_workers: int | None) -> None:
    """Serve the definitions until SIGTERM; runs at work are left to end by themselves."""
    quote_log_records()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    setup_interrupt_handlers()
    with DagsterInstance.get() as instance:
        reference, timeout_s = instance.get_ref(), instance.code_server_process_startup_timeout
    ended = threading.Event()
    try:
        servicer = KeepingProxy(reference, location_name, timeout_s, ended)
        server = DagsterGrpcServer(
            server_termination_event=ended,
            dagster_api_servicer=servicer,
            logger=logging.getLogger("kraken"),
            threadpool_executor=FuturesAwareThreadPoolExecutor(max_workers=max_workers),
            socket=str(socket),
        )
        servicer.keep()
        server.serve()
    except KeyboardInterrupt:
        pass
    # Not by Python's own end, which would wait for whatever a thread still asks of a child.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
