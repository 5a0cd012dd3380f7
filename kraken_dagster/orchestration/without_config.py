"""Resources that code has configured: no launchpad shows a field of theirs.

Dagster shows the configuration of every resource of a job, with its defaults, and lets it be
changed. Of ours nothing is the operator's: what a site sets stands in instruments.yaml.
"""

from typing import Any

import dagster as dg

from kraken_dagster.orchestration import dagster_internals


def without_config(resource: Any) -> dg.ResourceDefinition:
    """What Dagster takes in place of a resource, or of any object that stands in for one."""
    configured = (
        resource.get_resource_definition()
        if isinstance(resource, dg.ConfigurableResource)
        else dg.ResourceDefinition.hardcoded_resource(resource)
    )
    return dg.ResourceDefinition(
        configured.resource_fn,
        config_schema=_nothing(),
        description=(type(resource).__doc__ or "").partition("\n")[0],
    )


def nothing_is_handed_on() -> dg.IOManagerDefinition:
    """The IO manager of assets that hand nothing to each other: no file, no configuration."""
    return dg.IOManagerDefinition(
        resource_fn=lambda _context: dg.InMemoryIOManager(),
        config_schema=_nothing(),
        description="Assets hand nothing to each other: all is on the disks and in MongoDB.",
    )


def _nothing() -> Any:
    """Dagster leaves a resource out of its jobs' configuration where the schema is false."""

    class Nothing(dagster_internals.DefinitionConfigSchema):  # type: ignore[misc]
        def __bool__(self) -> bool:
            return False

        def as_field(self) -> None:
            return None

        @property
        def config_type(self) -> dg.Shape:  # for Dagit's page of the resource
            return dg.Shape({})

    return Nothing(dg.Field(dg.Shape({}), is_required=False))
