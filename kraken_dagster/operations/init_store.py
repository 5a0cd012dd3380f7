"""Making a store known: `kraken init-store`. The one place that writes a marker.

A root is adopted only for what stands in it, because an empty folder may be a mount point without
its file system, and one with a few backups what an accident has left below it.
"""

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kraken_dagster.fs.dir_handles import Folder
from kraken_dagster.fs.stores.marker import MARKER_NAME, Role, StoreRecord, marker_line
from kraken_dagster.fs.stores.marker_file import read_marker, write_marker
from kraken_dagster.fs.timeouts import bounded
from kraken_dagster.model.errors import InitRefused
from kraken_dagster.model.files.folder import Kind
from kraken_dagster.model.raw_file import RawFile
from kraken_dagster.runtime.services import Services
from kraken_dagster.runtime.stores import root_of

_LOOKED_AT = 40  # of what is recorded, half of it the oldest and half the newest
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class InitOptions:
    """`adopt`: the id of a marker that is there, and that this MongoDB doesn't know yet."""

    empty: bool = False
    another: bool = False
    incomplete: bool = False
    adopt: str | None = None


@dataclass(frozen=True)
class Initialised:
    """`result` is known, adopted or new; of `looked_at` recorded things `standing` stand there."""

    role: Role
    path: Path
    store_id: str
    result: str
    looked_at: int
    standing: int
    is_mount: bool


@dataclass(frozen=True)
class _Found:
    """What a root and MongoDB say: the marker's id, and which recorded things stand there."""

    marker: str | None
    recorded: int
    standing: int
    of_stores: frozenset[str]  # that are recorded as holding those that stand there
    is_mount: bool

    @property
    def enough(self) -> bool:
        return 2 * self.standing > self.recorded

    def in_words(self, role: Role) -> str:
        what = "backups" if role is Role.BACKUP else "results"
        if not self.recorded:
            return f"no {what} recorded in MongoDB"
        return f"{self.standing} of {self.recorded} recorded {what} that were looked for"


def init_store(
    services: Services, role: Role, *, by: str, options: InitOptions | None = None
) -> Initialised:
    """Makes the root of `locations` known as a store, if what stands there says that it is.

    Raises:
        InitRefused: it may be an empty mount point, or another disk.
        CopyStalled: it gives no answer.
        StoreUnavailable
    """
    options, path = options or InitOptions(), root_of(services, role)
    found = _scan(services, role, path)
    store_id, result = _decided(services, role, path, found, options)
    if options.another and result == "new":
        _keep_apart(services, role, by)
    if found.marker is None:
        mark(services, role, store_id, by=by)
    record = StoreRecord(store_id, role, str(path), _location(services, role))
    services.store.markers.record(record, by=f"{by} on {socket.gethostname()}", now=services.now())
    return Initialised(role, path, store_id, result, found.recorded, found.standing, found.is_mount)


def mark(services: Services, role: Role, store_id: str | None = None, *, by: str) -> str:
    """Puts a marker into a root, and the id into MongoDB; only for who knows that it is the store.

    Another role's line in it stays.
    """
    path, store_id = root_of(services, role), store_id or new_id()
    others = {key: value for key, value in read_marker(path).items() if key is not role}
    lines = [marker_line(key, value) for key, value in {**others, role: store_id}.items()]
    host, now = socket.gethostname(), services.now()
    reported = (
        f"# By this file Kraken knows the store. Written by {by} on {host}, {now:%Y-%m-%d %H:%M}"
    )
    lines.append(f"{reported} UTC, for {_mongodb(services)}; it moves with the store.")
    write_marker(path, "\n".join(lines) + "\n")
    record = StoreRecord(store_id, role, str(path), _location(services, role))
    services.store.markers.record(record, by=f"{by} on {host}", now=now)
    return store_id


def new_id() -> str:
    return secrets.token_hex(8)


def _location(services: Services, role: Role) -> str:
    locations = services.config.locations
    return (locations.backup if role is Role.BACKUP else locations.output).cluster_path


def _mongodb(services: Services) -> str:
    """Which MongoDB, without a user or password."""
    uri = services.config.mongodb.uri
    if not uri:
        return f"the MongoDB of {services.config.home.absolute()}"
    return uri.partition("://")[2].rpartition("@")[2].partition("?")[0]


def _scan(services: Services, role: Role, path: Path) -> _Found:
    wanted = _wanted_backups(services) if role is Role.BACKUP else _wanted_results(services)

    def scan() -> _Found:
        standing = [store for stands, store in wanted if stands(path)]
        return _Found(
            marker=read_marker(path).get(role),
            recorded=len(wanted),
            standing=len(standing),
            of_stores=frozenset(store for store in standing if store is not None),
            is_mount=os.path.ismount(path),
        )

    try:
        return bounded(scan, timeout_s=_PATIENCE_S, what=path)
    except OSError as error:
        raise InitRefused(
            f"The root of the {role} store can't be looked at",
            file=path,
            found=error.strerror or error,
            next_step="mount it, or create the folder if this is where it shall be.",
        ) from error


_Wanted = Sequence[tuple[Callable[[Path], bool], str | None]]


def _wanted_backups(services: Services) -> _Wanted:
    return [
        (lambda root, item=item: _stands(services, item, root), item.backup_store)
        for item in services.store.bulk.some_backups(_LOOKED_AT)
    ]


def _stands(services: Services, raw_file: RawFile, root: Path) -> bool:
    """Whether a member of the backup stands there with its recorded size."""
    name, fact = next(iter(raw_file.file_info.items()))
    folder = services.backup_folder(raw_file, root).relative_to(root)
    with Folder.open(root) as opened:
        seen = opened.scan_below((folder / name).as_posix())
    return seen is not None and seen.kind is Kind.FILE and seen.size == fact.size


def _wanted_results(services: Services) -> _Wanted:
    return [
        (lambda root, path=path: _has_result(root, path), None)
        for path in services.store.bulk.some_results(_LOOKED_AT)
    ]


def _has_result(root: Path, relative: PurePosixPath) -> bool:
    try:
        with Folder.open(root) as opened, opened.below(relative.as_posix()) as folder:
            return bool(folder.names())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _decided(
    services: Services, role: Role, path: Path, found: _Found, options: InitOptions
) -> tuple[str, str]:
    """The store's id, and what became of it: known, adopted or new."""
    known = services.store.markers.ids(role)
    if found.marker is not None:
        return _with_marker(role, path, found, known=known, options=options)
    if options.adopt is not None:
        raise _refused(role, path, found, f"no {MARKER_NAME}", "leave --adopt out.")
    if options.another:
        return new_id(), "new"
    if not found.recorded:
        return _first(role, path, found, known=known, options=options)
    if options.empty:
        advice = "leave --empty out: it is for a store in which nothing was ever put."
        raise _refused(role, path, found, found.in_words(role), advice)
    if not found.standing or not (found.enough or options.incomplete):
        raise _refused(
            role,
            path,
            found,
            f"{found.in_words(role)} stand there",
            "mount the store. If it is this one, and has lost the rest, --incomplete; if it is a "
            "further store, --another.",
        )
    candidates = found.of_stores or known
    if len(candidates) > 1:
        reported = f"backups of the stores {', '.join(sorted(candidates))}"
        raise _refused(
            role, path, found, reported, "bring each store's own marker back into its root."
        )
    return next(iter(candidates), new_id()), "adopted"


def _first(
    role: Role, path: Path, found: _Found, *, known: set[str], options: InitOptions
) -> tuple[str, str]:
    if known:
        raise _refused(
            role,
            path,
            found,
            f"no marker, while the store {', '.join(sorted(known))} was initialised before",
            "mount that store; if this is a further one, --another.",
        )
    if not options.empty:
        raise _refused(
            role,
            path,
            found,
            found.in_words(role),
            f"see that the store is mounted, then `kraken init-store {role} --empty`.",
        )
    return new_id(), "new"


def _with_marker(
    role: Role, path: Path, found: _Found, *, known: set[str], options: InitOptions
) -> tuple[str, str]:
    marker = str(found.marker)
    of_another = options.adopt not in (None, marker)
    if marker in known and of_another:
        advice = f"mount the store {options.adopt}, or leave --adopt out."
        raise _refused(role, path, found, f"the store {marker}, which is known", advice)
    if marker in known:
        return marker, "known"
    if options.adopt == marker or (found.enough and not known and not of_another):
        return marker, "adopted"
    raise _refused(
        role,
        path,
        found,
        f"the store {marker} of another MongoDB; {found.in_words(role)}",
        f"correct `locations` or `mongodb.uri`; `kraken init-store {role} --adopt {marker}` where "
        "both are to use one store, as a stand-in does.",
    )


def _keep_apart(services: Services, role: Role, by: str) -> None:
    """Backups that are recorded without their store are on the one that was there before."""
    if role is not Role.BACKUP:
        return
    before = services.store.markers.of(role)
    if len(before) > 1:
        return
    old = before[0].id if before else new_id()
    if not before:
        record = StoreRecord(old, role, str(root_of(services, role)), _location(services, role))
        reported = f"{by} on {socket.gethostname()}, as what there was before another one"
        services.store.markers.record(record, by=reported, now=services.now())
    services.store.bulk.put_on_store(old)


def _refused(role: Role, path: Path, found: _Found, reported: str, next_step: str) -> InitRefused:
    mount = "a mount" if found.is_mount else "no mount of its own"
    return InitRefused(
        f"The folder is not made known as the {role} store",
        file=path,
        found=f"{reported} (the folder is {mount})",
        next_step=next_step,
    )
