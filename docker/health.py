"""Health of one container, without curl and without importing Dagster (which costs seconds of CPU).

health.py http URL | tcp HOST:PORT | grpc HOST:PORT | daemon
"""

import os
import socket
import sys
import time
import urllib.request

_SILENT_S = 300  # the daemon writes a heartbeat every 30 s


def http(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=8) as answer:  # noqa: S310
        return bool(answer.status == 200)


def tcp(where: str) -> bool:
    host, port = where.rsplit(":", 1)
    socket.create_connection((host, int(port)), 8).close()
    return True


def grpc(where: str) -> bool:
    import grpc  # noqa: PLC0415 - each check pays for its own library only
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    with grpc.insecure_channel(where) as channel:
        request = health_pb2.HealthCheckRequest(service="DagsterApi")
        return bool(health_pb2_grpc.HealthStub(channel).Check(request, timeout=8).status == 1)


def daemon() -> bool:
    """The newest heartbeat in Dagster's storage."""
    import psycopg2  # noqa: PLC0415

    url = os.environ["KRAKEN_DAGSTER_POSTGRES"].replace("+psycopg2", "")
    with psycopg2.connect(url, connect_timeout=8) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM max(timestamp)) FROM daemon_heartbeats")
        (newest,) = cursor.fetchone()
    return newest is not None and time.time() - float(newest) < _SILENT_S


if __name__ == "__main__":
    kinds = {"http": http, "tcp": tcp, "grpc": grpc, "daemon": daemon}
    sys.exit(not kinds[sys.argv[1]](*sys.argv[2:]))
