"""50 open pages of the laboratory's page while a file changes every second.

Each client does what a browser does: it hears events, and after a change asks for what it shows,
at most twice a second. Prints pages/s, errors, the slowest answer and the server's CPU: with all on
the fleet, and with some on each view.

    python benchmarks/page_load.py [FILES] [BROWSERS] [SECONDS]
"""

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

import httpx
from page_server import Served, load, serving

BROWSERS, WATCHED_S, SETTLE_S = 50, 20.0, 3.0
_GOAL = 0.5  # of a core
_PAUSE_S = 0.5  # of page.js between two refreshes
FLEET = ("/?part=1",)
MIXED = (
    *5 * ("/?part=1",),
    *2 * ("/files/rows?limit=60&sort=-created_at",),
    "/files/rows?limit=60&sort=-metric_03&filter=hela",
    "/status?part=1",
    "/plots/data?y=metric_00,metric_01,metric_02&width=600",
)


@dataclass
class Seen:
    """What all clients have seen."""

    took: list[float] = field(default_factory=list)
    kilobytes: float = 0
    errors: list[str] = field(default_factory=list)


async def browse(client: httpx.AsyncClient, path: str, seen: Seen) -> None:
    """An open page, until it is cancelled."""
    stamp = None
    async with client.stream("GET", "/events") as events:
        async for line in events.aiter_lines():
            heard = json.loads(line[5:])["stamp"] if line.startswith("data:") else stamp
            if heard == stamp:
                continue
            stamp, begun = heard, time.perf_counter()
            try:
                answer = await client.get(path)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                seen.errors.append(repr(error))
                continue
            seen.took.append(time.perf_counter() - begun)
            seen.kilobytes += int(answer.headers.get("content-length", 0)) / 1000
            await asyncio.sleep(_PAUSE_S)


async def browsers(served: Served, count: int, paths: tuple[str, ...], seconds: float) -> None:
    seen = Seen()
    async with asyncio.TaskGroup() as group:
        clients = [httpx.AsyncClient(base_url=served.origin, timeout=60) for _ in range(count)]
        tasks = [
            group.create_task(browse(client, paths[number % len(paths)], seen))
            for number, client in enumerate(clients)
        ]
        served.changing.set()
        await asyncio.sleep(SETTLE_S)
        before, begun, first = served.cpu(), time.perf_counter(), len(seen.took)
        await asyncio.sleep(seconds)
        used, took = served.cpu() - before, time.perf_counter() - begun
        pages = len(seen.took) - first
        served.changing.clear()
        for task in tasks:
            task.cancel()
    for client in clients:
        await client.aclose()
    tell(seen, pages=pages, used=used, took=took, count=count)


def tell(seen: Seen, *, pages: int, used: float, took: float, count: int) -> None:
    if seen.errors:
        print(f"  the first of {len(seen.errors)} errors: {seen.errors[0]}")
    if not seen.took:
        raise SystemExit("no page was answered")
    print(
        f"  {count} browsers: {pages / took:.0f} pages/s of {count} wanted, "
        f"{len(seen.errors)} errors, answered after {1000 * statistics.median(seen.took):.0f} ms "
        f"(median; slowest {max(seen.took):.1f} s), {seen.kilobytes / len(seen.took):.1f} kB a page"
    )
    print(
        f"  server: {used / took:.3f} of a core (goal {_GOAL}: {used / took / _GOAL:.2f} of it), "
        f"{1000 * used / max(pages, 1):.2f} ms CPU a page"
    )


def all_loads(served: Served, count: int = BROWSERS, seconds: float = WATCHED_S) -> None:
    for name, paths in (("all on the fleet", FLEET), ("some on each view", MIXED)):
        print(f"a change every second, {name}; {load()}", flush=True)
        asyncio.run(browsers(served, count, paths, seconds))


def main(files: int = 100_000, count: int = BROWSERS, seconds: int = int(WATCHED_S)) -> None:
    with serving(files) as served:
        print(f"{files:,} files, {served.megabytes()} MB; process {served.process}", flush=True)
        all_loads(served, count, seconds)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
