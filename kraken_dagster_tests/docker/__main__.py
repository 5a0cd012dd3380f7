"""`make docker-test`: the demo in containers, while every service is killed, and a share goes away.

As root, where Docker is, with its plugins compose and buildx. `start.sh` starts an engine where
there is none, and makes a base image of Debian where there is no image registry.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_FILES = (
    *("docker/compose.yaml", "docker/demo/compose.workers.yaml", "docker/demo/compose.demo.yaml"),
    "kraken_dagster_tests/docker/compose.test.yaml",
)
_KILLED = ("sim_thermo", "daemon", "mongodb", "sim_bruker", "dagit", "page")
_PATIENCE_S = 3600.0
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Failed(Exception):
    """What the test found to be wrong."""


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _run(*command: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout.strip()


def _until(what: str, holds: Callable[[], bool], patience_s: float = _PATIENCE_S) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < patience_s:
        with suppress(Failed):
            if holds():
                return time.monotonic() - began
        time.sleep(1)
    raise Failed(f"not within {patience_s:g} s: {what}")


def build(base: str) -> None:
    """The image, and what stands in for the databases'."""
    secret = f"id=ca,src={_CERTIFICATES}"
    options = ("--network", "host", "--build-arg", f"BASE={base}", "--secret", secret)
    _run("docker", "build", "-q", *options, "-f", "docker/Dockerfile", "-t", "kraken:test", ".")
    size = int(_run("docker", "image", "inspect", "-f", "{{.Size}}", "kraken:test"))
    _say(f"image: {size / 1e6:.0f} MB")
    where = str(_HERE)
    for name in ("postgres", "mongodb"):
        file = f"{where}/Dockerfile.stand-ins"
        of = ("--target", name, "-t", f"kraken-{name}:test")
        _run("docker", "build", "-q", *options, "-f", file, *of, where)


@dataclass(frozen=True)
class Site:
    """The demo's services, on disks below a folder of this machine."""

    data: Path
    files: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "COMPOSE_FILE": ":".join(_FILES),
            "KRAKEN_PROJECT": "kraken-docker-test",
            "KRAKEN_IMAGE": "kraken:test",
            "POSTGRES_IMAGE": "kraken-postgres:test",
            "MONGODB_IMAGE": "kraken-mongodb:test",
            "KRAKEN_MONGODB_URI": "mongodb://mongodb/krakendb",
            "KRAKEN_SUBNET": "172.30.54.0/24",
            "KRAKEN_GATEWAY": "172.30.54.1",
            "DAGIT_PORT": "3954",
            "PAGE_PORT": "8954",
            "DEMO_FILES": str(self.files),
            "TEST_DATA": str(self.data),
        }

    def compose(self, *words: str, check: bool = True, **environment: str) -> str:
        given = {**self.environment, **environment}
        command = ("docker", "compose", "--env-file", "docker/demo/demo.env", *words)
        return _run(*command, check=check, **given)

    def kraken(self, *words: str, check: bool = True) -> str:
        return self.compose("exec", "-T", "sim_thermo", "kraken", *words, check=check)

    def container(self, service: str) -> str:
        return self.compose("ps", "-a", "-q", service)

    def state(self, service: str, field: str) -> str:
        return _run("docker", "inspect", "-f", f"{{{{.State.{field}}}}}", self.container(service))

    def kill(self, service: str) -> None:
        """The first process, as a crash: `docker kill` would count as ended by hand."""
        before = self.state(service, "Pid")
        _run("kill", "-9", before)
        took = _until(f"{service} is back", lambda: self.state(service, "Pid") not in ("0", before))
        _say(f"{service} was killed, and is back after {took:.0f} s")


def follow(site: Site) -> None:
    """From the first file to the last, while every service is killed once and one is replaced."""
    site.compose("up", "-d")
    began = time.monotonic()
    _until("a file is known", lambda: "sim_" in site.kraken("files", "--limit", "1", check=False))
    for service in _KILLED:
        if site.state("demo", "Running") == "false":
            raise Failed(f"the demo was over before {service} was killed: give it more --files")
        site.kill(service)
        time.sleep(20)
    _run("docker", "tag", "kraken:test", "kraken:test-2")
    site.compose("up", "-d", "--no-deps", "sim_sciex", KRAKEN_IMAGE="kraken:test-2")
    _say("sim_sciex was replaced")
    _until("the demo is over", lambda: site.state("demo", "Running") == "false")
    print(site.compose("logs", "--no-log-prefix", "--tail", "40", "demo"))
    _say(f"the demo took {(time.monotonic() - began) / 60:.1f} minutes")
    names = "{{.Name}}: {{.MemUsage}}"
    print(_run("docker", "stats", "--no-stream", "--format", names))
    if (code := site.state("demo", "ExitCode")) != "0":
        raise Failed(f"the demo ended with {code}")
    site.kill("postgres")  # last: the demo's judge asks Dagster all the time, and ends with it
    print(site.kraken("verify", "--all"))
    if left := list(site.data.rglob(".kraken-part-*")):
        raise Failed(f"left behind: {left}")


def remount(site: Site) -> None:
    """Another, empty file system comes to stand where an instrument's disk was, and goes again."""
    share = site.data / "instruments" / "sim_thermo"

    def condition() -> str:
        return site.kraken("status", check=False)

    _until("the disk is seen", lambda: "sim_thermo: " not in condition(), 300)
    _run("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", str(share))
    try:
        took = _until("its absence is told", lambda: "WRONG: sim_thermo: " in condition(), 300)
        _say(f"a share that was mounted over was noticed after {took:.0f} s")
        written = [path.name for path in share.iterdir()]
    finally:
        _run("umount", str(share))
    if written:
        raise Failed(f"written to the wrong disk: {written}")
    took = _until("it is back", lambda: "WRONG: sim_thermo: " not in condition(), 300)
    _say(f"the disk was noticed again after {took:.0f} s")


@contextmanager
def _disks() -> Iterator[Path]:
    """A folder on a shared mount of its own, as systemd makes `/` on a real host."""
    folder = Path(tempfile.mkdtemp(prefix="kraken-docker-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    _run("mount", "--bind", str(folder), str(folder))
    _run("mount", "--make-shared", str(folder))
    os.chown(data, 1000, 1000)
    try:
        yield data
    finally:
        _run("umount", "-R", str(folder), check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kraken_dagster_tests.docker")
    parser.add_argument("--files", type=int, default=4, help="ordinary files of each instrument")
    parser.add_argument("--base", default=os.environ.get("BASE_IMAGE", "python:3.12-slim"))
    options = parser.parse_args(argv)
    with _disks() as data:
        site = Site(data, options.files)
        try:
            build(options.base)
            follow(site)
            remount(site)
        except Failed as failure:
            _say(f"FAILED: {failure}")
            print(site.compose("ps", "-a", check=False))
            return 1
        finally:
            site.compose("--profile", "*", "down", "-v", "-t", "20", check=False)
    _say("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
