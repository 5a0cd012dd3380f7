"""Documents that earlier versions wrote are read: fields in MongoDB keep their names."""

import pytest
from pydantic import BaseModel

from kraken_dagster.model.files.appearance import Appearance
from kraken_dagster.model.files.identity import Identity
from kraken_dagster.model.jobs.job import QuantJob
from kraken_dagster.model.raw_file import DecidedSettings, FileFact, Lease, RawFile
from kraken_dagster.model.retention.refusal import PurgeIntent, Refusal
from kraken_dagster.model.settings import Settings

# The fields that documents of version 0.1.0 have of each class.
FIELDS: dict[type[BaseModel], str] = {
    Appearance: ("members looks changes extra extra_files writable restless"),
    DecidedSettings: ("name version attempt engine"),
    FileFact: ("size md5 etag"),
    Identity: ("id type path seen_at accepted renaming_from renamed_to retired_at retired_by"),
    Lease: ("token run_id host step until"),
    PurgeIntent: ("began_at run_id files bytes"),
    QuantJob: (
        "id raw_file instrument_id settings_name settings_version settings_digest "
        "settings_path inputs software_type software metrics_type engine attempt "
        "resubmission state output_path relative_output_path command environment resources "
        "max_mem max_time working_copy log_name created_at tried_at missing_since "
        "cluster_job_id followed exit_code detail log_tail error_codes unknown_since "
        "started_at ended_at elapsed_s peak_memory_bytes node collected_at result_error"
    ),
    RawFile: (
        "id original_name instrument_id status collision_flag project_id status_details "
        "size file_info backup_base_path filed_as backup_status instrument_file_status "
        "created_at created_at_ updated_at_ created_at_on_disk acquisition attempts "
        "failures unsorted_failures retry_at lease quant_settings history backed_up_at "
        "backup_store backup_seen verified_at ended_as source_look source_differs_at "
        "ended_details gone_at archive purge purge_intent unreadable"
    ),
    Settings: (
        "name version number description software_type software metrics_type config_params "
        "config_file_name fasta_file_name speclib_file_name num_threads job_engine "
        "slurm_partition slurm_nodes slurm_cpus_per_task slurm_mem slurm_time "
        "slurm_directives slurm_max_mem slurm_max_time status"
    ),
    Refusal: ("problem at failures unsorted_failures retry_at refused backup_lacks"),
}


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_no_field_has_another_name(model: type[BaseModel]) -> None:
    known = {name for key, field in model.model_fields.items() for name in (key, field.alias)}
    assert set(FIELDS[model].split()) - known == set()


def test_a_backup_that_was_seen_is_read() -> None:
    known = {"members": 3, "looks": "a", "changes": "b", "writable": 1}
    assert Appearance.model_validate(known).looks == "a"
