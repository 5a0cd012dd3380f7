"""A list of members that is kept beside a raw file's record, and read when it is first needed."""

from collections.abc import Callable, Iterator, Mapping

from kraken_dagster.model.raw_file import FileFact


class MembersElsewhere(Mapping[str, FileFact]):
    """What is recorded of many members, by path. How many they are is known without reading them.

    Reading them asks MongoDB, and raises what that raises.
    """

    def __init__(self, count: int, read: Callable[[], Mapping[str, FileFact]]) -> None:
        self._count = count
        self._read = read
        self._known: Mapping[str, FileFact] | None = None

    def _all(self) -> Mapping[str, FileFact]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def __getitem__(self, path: str) -> FileFact:
        return self._all()[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self._count} members, kept beside the record>"
