"""What people do with settings: every version is checked, and none is ever changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kraken_dagster.metrics.registry import READERS
from kraken_dagster.model.errors import (
    AlreadyThere,
    InputRefused,
    KrakenError,
    UnknownSettings,
)
from kraken_dagster.model.projects import (
    check_settings,
    settings_from,
)
from kraken_dagster.model.settings import Settings
from kraken_dagster.projects import settings_file
from kraken_dagster.runtime.services import Services


@dataclass(frozen=True)
class Imported:
    """What became of an entry of a file: `added`, or it was `there` already."""

    settings: Settings
    added: bool


def metrics_types(services: Services) -> set[str]:
    """The types of metrics that this installation can read."""
    return set(READERS) | set(services.config.metrics)


def settings_by(services: Services, reference: str) -> Settings:
    """Settings by `NAME:VERSION`, or by `NAME` the newest version that isn't archived.

    Raises:
        UnknownSettings, InputRefused
    """
    name, colon, version = reference.partition(":")
    if not colon:
        versions = services.store.catalog.versions(name)
        return next((item for item in reversed(versions) if item.is_active), versions[-1])
    if not version.isdecimal():
        raise InputRefused(
            "Settings are named by name, or by name and version",
            expected="NAME or NAME:VERSION",
            found=repr(reference),
        )
    return services.store.catalog.settings(name, int(version))


def add_settings(services: Services, values: Mapping[str, Any]) -> Settings:
    """Adds settings under a new name.

    Raises:
        InputRefused, AlreadyThere
    """
    settings = settings_from({**values, "version": 1})
    _check(services, settings)
    if _versions(services, settings.name):
        raise AlreadyThere(
            "Settings of that name are there already",
            file=settings.name,
            next_step=f"`kraken settings new-version {settings.name}` makes a further version.",
        )
    return _added(services, settings)


def new_version(
    services: Services, name: str, changes: Mapping[str, Any], *, base: int | None = None
) -> tuple[Settings, Settings]:
    """Adds a version that differs from the newest in `changes`, where None unsets a field; both.

    Args:
        base: the version that the changes were made for; another newest one is refused.

    Raises:
        UnknownSettings, InputRefused
        AlreadyThere: somebody else made a version meanwhile.
    """
    # Looked up first: whoever makes a version between the two is found out by either.
    number = services.store.catalog.next_version(name)
    before = services.store.catalog.versions(name)[-1]
    if base is not None and before.version != base:
        raise AlreadyThere(
            "There is a newer version than the one that you start from",
            file=before.title,
            expected=f"version {base}",
            next_step=f"look at `kraken settings show {name}`, and ask again.",
        )
    after = settings_from({**before.content, **changes, "version": number})
    _check(services, after)
    _refuse_other_type(after, [before])
    if after.says_the_same(before):
        raise InputRefused("Nothing differs from the newest version", file=before.title)
    return before, _added(services, after)


def _refuse_other_type(settings: Settings, known: Sequence[Settings]) -> None:
    """Settings keep their software type: by name they are told apart in a file's results."""
    for other in known:
        if other.software_type != settings.software_type:
            raise InputRefused(
                f"Settings {settings.name!r} can't be used: software_type: expected "
                f"{other.software_type}, as in {other.title}, found {settings.software_type}",
                next_step="add settings under another name.",
            )


def archive_settings(services: Services, settings: Settings) -> list[str]:
    """Has settings not be assigned anew; the projects that go on using them."""
    services.store.catalog.archive_settings(settings)
    return services.store.catalog.used_by(settings)


def exported(services: Services, references: Sequence[str]) -> str:
    """Settings as the text of a file; all that aren't archived where none are named.

    Raises:
        UnknownSettings, InputRefused
    """
    if references:
        return settings_file.written([settings_by(services, item) for item in references])
    found, _ = services.store.catalog.all_settings()
    return settings_file.written([item for item in found if item.is_active])


def imported(services: Services, content: bytes) -> list[Imported]:
    """Adds the settings of a file. Either all of them can be used, or none is added.

    Those with a version keep it; those without become a new version unless the newest one says
    the same.

    Raises:
        InputRefused: no such file, a field breaks a rule, or a digest is not that of what stands
            there.
        AlreadyThere: a version says something else here.
    """
    planned: dict[tuple[str, int], Imported] = {}
    problems: list[KrakenError] = []
    for entry in settings_file.read(content):
        try:
            item = _planned(services, entry, [done.settings for done in planned.values()])
        except (InputRefused, AlreadyThere) as error:
            problems.append(error)
        else:
            planned[item.settings.name, item.settings.version] = item
    if len(problems) > 1:
        raise InputRefused(
            f"{len(problems)} of the settings can't be used: {' '.join(map(str, problems))}"
        )
    if problems:
        raise problems[0]
    for item in planned.values():
        if item.added:
            _added(services, item.settings)
    return list(planned.values())


def _planned(services: Services, entry: Mapping[str, Any], before: Sequence[Settings]) -> Imported:
    values = {key: value for key, value in entry.items() if key != "digest"}
    settings = settings_from(values)
    if "digest" in entry and entry["digest"] != settings.digest:
        raise InputRefused(
            "Settings were changed by hand, and keep the digest of the earlier ones",
            file=settings.title,
            expected=entry["digest"],
            found=settings.digest,
            next_step="take out their `digest` and `version`: they become a new version.",
        )
    _check(services, settings)
    known = [
        *_versions(services, settings.name),
        *(it for it in before if it.name == settings.name),
    ]
    _refuse_other_type(settings, known)
    if "version" in entry:
        same = next((item for item in known if item.version == settings.version), None)
        if same is not None and same.digest != settings.digest:
            raise AlreadyThere(
                "This version says something else here, and a version never changes",
                file=settings.title,
                expected=same.digest,
                found=settings.digest,
                next_step="take out its `digest` and `version`: it becomes a new version.",
            )
        return Imported(same or settings, added=same is None)
    newest = max(known, key=lambda item: item.version, default=None)
    if newest is None:
        return Imported(settings, added=True)
    if newest.says_the_same(settings):
        return Imported(newest, added=False)
    numbers = (newest.version + 1, services.store.catalog.next_version(settings.name))
    return Imported(settings.model_copy(update={"version": max(numbers)}), added=True)


def _versions(services: Services, name: str) -> list[Settings]:
    try:
        return services.store.catalog.versions(name)
    except UnknownSettings:
        return []


def _check(services: Services, settings: Settings) -> None:
    engines = services.config.engines
    check_settings(settings, metrics_types=metrics_types(services), engines=engines)


def _added(services: Services, settings: Settings) -> Settings:
    if not services.store.catalog.add_settings(settings, now=services.now()):
        raise AlreadyThere(
            "Somebody else made this version meanwhile",
            file=settings.title,
            next_step="look at what it says with `kraken settings show`, and ask again.",
        )
    return services.store.catalog.settings(settings.name, settings.version)
