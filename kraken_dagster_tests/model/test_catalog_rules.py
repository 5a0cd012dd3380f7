"""The rules of what people enter for projects, settings and assignments, and the reasons told."""

import hashlib

import pytest

from kraken_dagster.model.eligibility import (
    ScopedSettings,
    explain_scopes,
    settings_in_scope,
)
from kraken_dagster.model.errors import InputRefused
from kraken_dagster.model.jobs.software_version import software_version
from kraken_dagster.model.projects import (
    Project,
    check_assignment,
    check_project,
    check_settings,
    settings_from,
)
from kraken_dagster.model.settings import Settings

TYPES = {"alphadia", "custom", "msqc"}
GOOD = {"name": "s", "software": "tools/program", "software_type": "custom"}


def refused(values: dict) -> str:
    with pytest.raises(InputRefused) as caught:
        check_settings(settings_from(values), metrics_types=TYPES, engines={"local", "cluster"})
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"name": ""}, "name: expected 1 to 64 of"),
        ({"name": "a-b"}, "name: expected 1 to 64 of"),
        ({"name": "a\n"}, "name: expected 1 to 64 of"),
        ({"name": "x" * 65}, "name: expected 1 to 64 of"),
        ({"description": "x" * 513}, "description: expected at most 512 characters, found 513"),
        ({"config_params": "x" * 2049}, "config_params: expected at most 2048"),
        ({"config_params": "--a 'b"}, "config_params: expected balanced quotes"),
        ({"software_type": "maxquant"}, "software_type: expected one of alphadia, custom"),
        ({"software": "../program"}, "software: expected a path below locations.software"),
        ({"software": "/bin/sh"}, "software: expected a path below locations.software"),
        ({"software": "-rf"}, "software: expected a path below locations.software"),
        ({"software": "a\nb"}, "software: expected a path below locations.software"),
        ({"software": ""}, "software: expected a path below locations.software"),
        ({"fasta_file_name": "../x.fasta"}, "fasta_file_name: expected a path below"),
        ({"speclib_file_name": "/x"}, "speclib_file_name: expected a path below"),
        ({"config_file_name": "a/./b"}, "config_file_name: expected a path below"),
        ({"metrics_type": "unheard"}, "metrics_type: expected one of alphadia, custom, msqc"),
        ({"job_engine": "docker"}, "job_engine: expected one of cluster, local, found 'docker'"),
        ({"num_threads": 0}, "num_threads: expected 1 to 4096, found 0"),
        ({"num_threads": 2**63}, "num_threads: expected 1 to 4096"),
        ({"slurm_time": "99999999999-00:00:01"}, "slurm_time: expected HH:MM:SS"),
        ({"status": "banana"}, "'status': there is no such field"),
        ({"description": "a\0b"}, "description: expected text without control characters"),
        ({"description": ["x" * 10**6] * 100}, "description: Input should be a valid string"),
        ({"num_threads": "many"}, "num_threads: Input should be a valid integer"),
        ({"slurm_cpus_per_task": -1}, "slurm_cpus_per_task: expected 1 to 65536"),
        ({"slurm_mem": "64"}, "slurm_mem: expected <number>[KMGT], like 64G, found '64'"),
        ({"slurm_mem": "64GB"}, "slurm_mem: expected <number>[KMGT]"),
        ({"slurm_mem": "1.5G"}, "slurm_mem: expected <number>[KMGT]"),
        ({"slurm_mem": "0G"}, "slurm_mem: expected <number>[KMGT]"),
        ({"slurm_max_mem": "lots"}, "slurm_max_mem: expected <number>[KMGT]"),
        ({"slurm_time": "2h"}, "slurm_time: expected HH:MM:SS or D-HH:MM:SS, found '2h'"),
        ({"slurm_time": "02:00"}, "slurm_time: expected HH:MM:SS"),
        ({"slurm_time": "02:61:00"}, "slurm_time: expected HH:MM:SS"),
        ({"slurm_time": "00:00:00"}, "slurm_time: expected HH:MM:SS"),
        ({"slurm_partition": "a b"}, "slurm_partition: expected names of partitions"),
        ({"slurm_directives": ["--wrap=rm"]}, "slurm_directives: expected --NAME"),
        ({"colour": "red"}, "'colour': there is no such field"),
        ({"software_type": "alphadia", "software": "a b"}, "the name of a conda environment"),
        ({"software_type": "alphadia", "software": "env"}, "expected at least one of them"),
    ],
)
def test_settings_that_break_a_rule_are_told_with_field_and_rule(changes, reported):
    assert reported in refused({**GOOD, **changes})


def test_a_huge_value_is_told_briefly():
    assert len(refused({**GOOD, "description": ["x" * 10**6] * 100})) < 1000


def test_all_rules_that_are_broken_are_told_at_once():
    reported = refused({**GOOD, "slurm_mem": "x", "slurm_time": "y", "num_threads": 0})
    assert all(name in reported for name in ("slurm_mem:", "slurm_time:", "num_threads:"))


@pytest.mark.parametrize(
    "values",
    [
        GOOD,
        {**GOOD, "slurm_mem": "64G", "slurm_time": "1-02:00:00", "slurm_max_time": "99:59:59"},
        {**GOOD, "slurm_directives": ["--account=a b", "--exclusive"], "job_engine": "cluster"},
        {**GOOD, "software": "kraken-rawqc", "software_type": "msqc", "metrics_type": "msqc"},
        {**GOOD, "software_type": "alphadia", "software": "a-1.10", "fasta_file_name": "f/h.fasta"},
        {**GOOD, "config_params": None, "description": "äöü"},
    ],
)
def test_settings_that_keep_the_rules_are_taken(values):
    check_settings(settings_from(values), metrics_types=TYPES, engines={"local", "cluster"})


@pytest.mark.parametrize(
    ("project_id", "reported"),
    [
        ("ABC", "4 to 16 of A-Z and 0-9"),
        ("A" * 17, "4 to 16 of A-Z and 0-9"),
        ("1234", "a letter among them"),
        ("ab12", "4 to 16 of A-Z and 0-9"),
        ("AB_1", "4 to 16 of A-Z and 0-9"),
        ("AB12\n", "4 to 16 of A-Z and 0-9"),
        ("DDA", "4 to 16 of A-Z and 0-9"),
        ("DIA", "4 to 16 of A-Z and 0-9"),
        ("XDDA1", "files of DDA are not processed"),
        ("_FALLBACK", "4 to 16 of A-Z and 0-9"),
    ],
)
def test_a_project_id_that_breaks_a_rule_is_refused(project_id, reported):
    with pytest.raises(InputRefused, match=reported):
        check_project(Project(id=project_id, name="n"))


def test_a_project_needs_a_name_that_alphakraken_takes():
    check_project(Project(id="P123", name="n" * 64))
    with pytest.raises(InputRefused, match=r"name: .* found 65.*description: .* found 513"):
        check_project(Project(id="P123", name="n" * 65, description="d" * 513))


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"scope": "thermo9"}, r"scope: expected one of \*, thermo, bruker, sciex, thermo1"),
        ({"excluded": ["nobody"]}, "excluded: expected an instrument of thermo1, found 'nobody'"),
        ({"scope": "thermo1", "excluded": ["thermo1"]}, "so that nothing is left"),
        ({"raw_file_id_filter": "x" * 129}, "filter: expected at most 128"),
    ],
)
def test_an_assignment_that_breaks_a_rule_is_refused(changes, reported):
    given = {"scope": "*", "excluded": [], "raw_file_id_filter": None, **changes}
    with pytest.raises(InputRefused, match=reported):
        check_assignment(**given, instruments=["thermo1"])


# -- why which settings apply ---------------------------------------------------------------------

ENTRIES = [
    ScopedSettings("default", "alphadia"),
    ScopedSettings("plasma", "alphadia", raw_file_id_filter="plasma"),
    ScopedSettings("vendor", "alphadia", scope="thermo"),
    ScopedSettings("vendor_long", "alphadia", scope="thermo", raw_file_id_filter="_plasma_"),
    ScopedSettings("other_vendor", "alphadia", scope="bruker"),
    ScopedSettings("excluded", "alphadia", scope="*", excluded=frozenset({"thermo1"})),
    ScopedSettings("serum", "alphadia", scope="thermo1", raw_file_id_filter="serum"),
    ScopedSettings("qc", "msqc"),
    ScopedSettings("late_qc", "msqc"),
]
FILE = {"instrument_id": "thermo1", "vendor": "thermo", "raw_file_id": "x_plasma_1.raw"}


def test_every_entry_is_explained():
    reported = {item.entry.settings: item.reason for item in explain_scopes(ENTRIES, **FILE)}
    winner = "'vendor_long' has the same type alphadia and a "
    assert reported == {
        "default": winner + "more specific scope: the vendor",
        "plasma": winner + "more specific scope: the vendor",
        "vendor": winner + "longer filter: '_plasma_'",
        "vendor_long": "the most specific of type alphadia: scope 'thermo', filter '_plasma_'",
        "other_vendor": "its scope 'bruker' is neither 'thermo1' nor 'thermo'",
        "excluded": "'thermo1' is excluded",
        "serum": "its filter 'serum' is not in the name (upper and lower case differ)",
        "qc": "the most specific of type msqc: scope '*'",
        "late_qc": "'qc' has the same type msqc and was assigned earlier",
    }


def test_what_is_explained_is_what_is_chosen():
    applies = [item.entry for item in explain_scopes(ENTRIES, **FILE) if item.applies]
    assert applies == settings_in_scope(ENTRIES, **FILE)


# -- digests --------------------------------------------------------------------------------------


def test_the_digest_depends_on_what_settings_say_and_on_nothing_else():
    one = Settings(name="s", software="p", config_params="--a", number=3)
    same = Settings(
        name="s", software="p", config_params="--a", number=7, status="inactive", fasta_file_name=""
    )
    assert one.digest == same.digest
    others = [
        one.model_copy(update=change)
        for change in ({"config_params": "--b"}, {"version": 2}, {"slurm_directives": ("--x",)})
    ]
    assert len({one.digest, *(item.digest for item in others)}) == 4
    assert one.says_the_same(others[1])
    assert not one.says_the_same(others[0])


def test_the_digest_of_given_settings_never_changes():
    """It stands in results and in files of other installations: a new field must not change it."""
    text = (
        '{"metrics_type":"custom","name":"s","num_threads":1,"slurm_mem":"64G","software":"p",'
        '"software_type":"custom","version":1}'
    )
    settings = Settings(name="s", software="p", slurm_mem="64G")
    assert settings.digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


# -- versions in logs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "log", "version"),
    [
        ("alphadia", "0:00:00.0 PROGRESS:  _ \n0:00:00.002 PROGRESS: version: 1.12.1\n", "1.12.1"),
        ("alphadia", "\x1b[32m0:00:00 PROGRESS: version: 2.0.0-dev0\x1b[0m", "2.0.0-dev0"),
        ("alphadia", "Loading conda version 23.7\n0:0 PROGRESS: version: 1.12.1", "1.12.1"),
        ("alphadia", "Python version: 3.11.4", None),
        ("diann", "\nDIA-NN 1.8.1 (Data-Independent Acquisition by Neural Networks)\n", "1.8.1"),
        ("diann", "slurmstepd 23.11\nFile format version 3\nDIA-NN 2.1.0 Academia", "2.1.0"),
        ("skyline", "Skyline (64-bit) 23.1.0.268 (ab12)", "23.1.0.268"),
        ("skyline", "SkylineCmd 24.1.0.199", "24.1.0.199"),
        ("msqc", "kraken-rawqc 0.1.0\nraw file: 'x.d'", "0.1.0"),
        ("custom", "mytool v3.2", "3.2"),
        ("custom", "slurmstepd 23.11\nDIA-NN 1.9", "1.9"),
        ("custom", "read 12.5 GB in 3.1 s\n2026.1 is no version", None),
        ("custom", "", None),
        ("unheard", "tool 1.2", None),
    ],
)
def test_a_program_is_asked_for_its_version_in_its_own_words(kind, log, version):
    assert software_version(kind, log) == version
