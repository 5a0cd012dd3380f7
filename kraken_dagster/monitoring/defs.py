"""Shows in Dagit how full the disks are: materialisations of assets that stand for them.

An asset that is only observed is shown as one that was never materialised.
"""

import dagster as dg

from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.monitoring.disk_usage import Disk, measure_file_systems, shown, to_show
from kraken_dagster.runtime.services import Services

GROUP = "file_systems"


def disk_assets(config: KrakenConfig) -> list[dg.AssetSpec]:
    """One for each instrument, and in one code location for the backup store and the output; no run
    materialises them."""
    return [
        dg.AssetSpec(
            dg.AssetKey([GROUP, name]),
            group_name=GROUP,
            description=f"How full the disk of {name} is.",
        )
        for name in shown(config)
    ]


def show_disks(instance: dg.DagsterInstance, services: Services) -> list[str]:
    """Looks at the file systems and shows what is due to be shown; returns what is wrong."""
    wrong = measure_file_systems(services)
    for disk in to_show(services):
        instance.report_runless_asset_event(_materialisation(disk))
    return wrong


def _materialisation(disk: Disk) -> dg.AssetMaterialization:
    metadata: dict[str, dg.MetadataValue] = {
        "free GB": dg.MetadataValue.float(disk.free_gb),
        "seen at": dg.MetadataValue.timestamp(disk.seen_at),
    }
    if disk.total_gb:
        used = 100 * (1 - disk.free_gb / disk.total_gb)
        metadata["total GB"] = dg.MetadataValue.float(disk.total_gb)
        metadata["used %"] = dg.MetadataValue.float(round(used, 2))
    return dg.AssetMaterialization(asset_key=dg.AssetKey([GROUP, disk.name]), metadata=metadata)
