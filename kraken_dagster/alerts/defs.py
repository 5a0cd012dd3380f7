"""The sensor `alerts`: a look at everything, by Dagster's daemon."""

import dagster as dg

from kraken_dagster.alerts.dagster_facts import ALERTS_SENSOR, dagster_facts
from kraken_dagster.alerts.monitor import scan
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.errors import KrakenError
from kraken_dagster.orchestration.failures import skip
from resources.kraken import KrakenResource


def alerts_sensor(config: KrakenConfig) -> dg.SensorDefinition:
    @dg.sensor(
        name=ALERTS_SENSOR,
        minimum_interval_seconds=config.alerts.look_every_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for what is wrong, and tells those who want to know.",
    )
    def alerts(
        context: dg.SensorEvaluationContext,
        kraken: dg.ResourceParam[KrakenResource],
    ) -> dg.SkipReason:
        try:
            services = kraken.create_services(config)
            looked = scan(
                services,
                dagster=lambda: dagster_facts(context.instance, config, now=services.now()),
                by="sensor",
            )
        except KrakenError as error:
            return skip(str(error))
        for problem in looked.problems:
            context.log.error(problem)
        return skip(looked.in_words())

    return alerts
