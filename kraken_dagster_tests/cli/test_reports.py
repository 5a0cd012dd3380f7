"""What `kraken status` calls wrong: quiet never means broken."""

from kraken_dagster.operations import report as reports
from kraken_dagster_tests.support.helpers import backed_up, job


def test_a_file_that_stands_still_and_jobs_of_a_lost_engine_are_told_as_wrong(services):
    backed_up(services, "bruker1", "x.d")
    services.store.jobs.intend(job("lost", engine="old_cluster"))
    assert not any("x.d" in problem for problem in reports.status(services)["wrong"])
    services.now.forward(hours=25)
    wrong = "\n".join(reports.status(services)["wrong"])
    assert "'x.d' has been copying_done since" in wrong
    assert "'old_cluster'" in wrong
