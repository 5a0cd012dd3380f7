"""The run config of raw files' assets: what they understand of it, and what they refuse.

Dagster drops the config of an op that isn't there, and a backfill's is looked at by nobody before
its runs begin. So the assets take whatever is given, and compare it themselves, each step with all
of the run's config, before it begins anything.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator

from kraken_dagster.config.instruments import InstrumentEntry, Options, OutputExistsMode
from kraken_dagster.config.schema import KrakenConfig
from kraken_dagster.model.printable import printable
from kraken_dagster.model.raw_file import Step
from kraken_dagster.orchestration.partitions import (
    BACKUP,
    CATCHUP,
    EVERY_ASSET,
    QUANT_JOB,
    TAG_ATTEMPT,
    TAG_COPIES,
    TAG_FILES,
    TAG_INSTRUMENT,
    TAG_STEP,
    op_name,
)

_OF_DAGSTER = ("ops", "resources", "execution", "loggers")
_OF_AN_OP = ("config", "inputs", "outputs")
_NUMBERS = (TAG_FILES, TAG_COPIES)
_TAGS = (TAG_STEP, TAG_ATTEMPT, TAG_INSTRUMENT, *_NUMBERS)
_NEXT = "Nothing was begun. Next: correct it, and launch the run again."


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _described(name: str) -> Any:
    return Field(description=Options.model_fields[name].description)


class BackupConfig(_Strict):
    backup_overwrite_file_id: str | None = _described("backup_overwrite_file_id")
    checksum_overwrite_file_id: str | None = _described("checksum_overwrite_file_id")


class QuantConfig(_Strict):
    """The mode in small letters as in instruments.yaml, or in capitals as Dagster has enums."""

    output_exists_mode: OutputExistsMode = _described("output_exists_mode")
    debug_no_cluster_ssh: bool = _described("debug_no_cluster_ssh")

    @field_validator("output_exists_mode", mode="before")
    @classmethod
    def _mode(cls, given: object) -> object:
        for mode in OutputExistsMode:
            if given in (mode.value, mode.name):
                return mode
        words = ", ".join(mode.value for mode in OutputExistsMode)
        raise ValueError(f"one of {words}")


_CONFIGS: Mapping[str, type[_Strict]] = {BACKUP: BackupConfig, QUANT_JOB: QuantConfig}


def open_config(asset: str, defaults: InstrumentEntry) -> type[dg.Config]:
    """The asset's config for Dagster: the known options with their defaults, and anything else."""
    fields: dict[str, Any] = {
        name: (Any, Field(_plain(getattr(defaults, name)), description=field.description))
        for name, field in _CONFIGS[asset].model_fields.items()
    }
    return create_model(f"{asset}_config", __base__=dg.PermissiveConfig, **fields)


def _plain(value: object) -> object:
    return value.value if isinstance(value, OutputExistsMode) else value


def backup_config(given: dg.Config) -> BackupConfig:
    return BackupConfig.model_validate(given.model_dump())


def quant_config(given: dg.Config) -> QuantConfig:
    return QuantConfig.model_validate(given.model_dump())


def require_understood(context: dg.AssetExecutionContext, config: KrakenConfig) -> None:
    """Looks at all of the run's config and tags, whichever of its steps this is.

    Raises:
        dg.Failure: a part of them would reach nobody, or can't be used; in one sentence.
    """
    problem = next(_problems(context.run.run_config, _ops_of(context, config)), None)
    problem = problem or _problem_of_tags(context.run.tags)
    if problem is not None:
        raise dg.Failure(printable(f"{problem}. {_NEXT}"), allow_retries=False)


def _ops_of(context: dg.AssetExecutionContext, config: KrakenConfig) -> Mapping[str, str]:
    """The ops that the config may be for, with their assets: those of the run or its backfill."""
    keys = set(context.selected_asset_keys)
    keys |= set(context.job_def.asset_layer.executable_asset_keys)
    backfill_id = context.run.tags.get("dagster/backfill")
    backfill = context.instance.get_backfill(backfill_id) if backfill_id else None
    keys |= set(backfill.asset_selection or ()) if backfill is not None else set()
    return {
        op_name(instrument_id, asset): asset
        for instrument_id in config.instruments
        for asset in EVERY_ASSET
        if dg.AssetKey([instrument_id, asset]) in keys
    }


def _problems(given: Mapping[str, Any], ops: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a run config, each in one sentence without its full stop."""
    yield from _unknown(given, _OF_DAGSTER, "The run config")
    of_ops = given.get("ops", {})
    if not isinstance(of_ops, Mapping):
        yield f"`ops` of the run config is {of_ops!r}, expected ops with their config"
        return
    yield from _unknown(of_ops, sorted(ops), "`ops` of the run config")
    for name, of_op in of_ops.items():
        where = f"ops.{name}"
        if not isinstance(of_op, Mapping):
            yield f"`{where}` is {of_op!r}, expected `config` with the options below it"
            continue
        yield from _unknown(of_op, _OF_AN_OP, f"`{where}`")
        yield from _of_options(of_op.get("config") or {}, _CONFIGS.get(ops[name]), where)


def _of_options(given: Any, known: type[_Strict] | None, where: str) -> Iterator[str]:
    where += ".config"
    if not isinstance(given, Mapping):
        yield f"`{where}` is {given!r}, expected options with their values"
        return
    fields = {} if known is None else known.model_fields
    yield from _unknown(given, [*fields], f"`{where}`")
    if known is None:
        return
    for name, value in given.items():
        try:
            known.__pydantic_validator__.validate_assignment(known.model_construct(), name, value)
        except ValidationError as error:
            yield f"`{where}.{name}` is {value!r}, expected {_expected(error)}"


def _expected(error: ValidationError) -> str:
    first = error.errors()[0]
    words = {"bool_type": "true or false", "string_type": "a text"}
    return words.get(first["type"], first["msg"].removeprefix("Value error, "))


def _unknown(given: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    for key in given:
        if key in known:
            continue
        by_case = [item for item in known if item.lower() == str(key).lower()]
        meant = by_case or difflib.get_close_matches(str(key), known, n=1)
        if meant:
            reported = f"`{meant[0]}` is meant, perhaps"
        else:
            reported = f"expected {' or '.join(f'`{item}`' for item in known) or 'nothing'}"
        yield f"{where} has {key!r}, which reaches nobody; {reported}"


def _problem_of_tags(tags: Mapping[str, str]) -> str | None:
    ours = {name: value for name, value in tags.items() if name.startswith("kraken/")}
    if (problem := next(_unknown(ours, _TAGS, "The run's tags"), None)) is not None:
        return problem
    step, steps = tags.get(TAG_STEP), (*(item.value for item in Step), CATCHUP)
    if step is not None and step not in steps:
        return f"The run's tag `{TAG_STEP}` is {step!r}, expected one of {', '.join(steps)}"
    for name in _NUMBERS:
        if not tags.get(name, "1").isdecimal():
            return f"The run's tag `{name}` is {tags[name]!r}, expected a number"
    return None
