"""The sensor `alerts`: a look at everything, by Dagster's daemon."""

import dagster as dg

from kraken_dagster.alerts.dagster_facts import dagster_facts
from kraken_dagster.alerts.monitor import SENSOR, scan
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.monitoring.code_locations import suffixes
from kraken_dagster.orchestration.failures import skip
from kraken_dagster.orchestration.partitions import ALERTS_SENSOR, name_here
from resources.kraken import KrakenResource


def alerts_sensor(config: KrakenConfig) -> dg.SensorDefinition:
    """Looks at the instruments of all code locations; of several the one with the first instrument
    does, and the others where that is silent."""

    @dg.sensor(
        name=name_here(config, ALERTS_SENSOR),
        minimum_interval_seconds=config.alerts.look_every_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for what is wrong, and tells those who want to know.",
    )
    def alerts(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.SkipReason:
        try:
            services = kraken.create_services(config.whole)
            looked = scan(
                services,
                dagster=lambda: dagster_facts(
                    context.instance,
                    config.whole,
                    now=services.now(),
                    suffixes=suffixes(services),
                ),
                by=SENSOR,
                stands_by=not config.owns_shared,
            )
        except KrakenError as error:
            return skip(str(error))
        for problem in looked.problems:
            context.log.error(problem)
        return skip(looked.in_words())

    return alerts
