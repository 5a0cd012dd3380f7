"""The looks at instruments' folders, as a Dagster resource."""

import dagster as dg

from kraken_dagster.fs.folder_listing import list_folder
from kraken_dagster.model.ports import FolderLister


class StorageResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Looks at folders by a process of its own, so that a mount that hangs blocks nobody."""

    def create_lister(self) -> FolderLister:
        return list_folder
