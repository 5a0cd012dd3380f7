"""Commands over SSH, with a real server that is killed, frozen and given other keys."""

import hashlib
import os
import random
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from kraken_dagster.engines.ssh import Answer, HeadNode, Login, Ssh, shared
from kraken_dagster.engines.ssh_connect import connect
from kraken_dagster.fs.processes.child_processes import free_port
from kraken_dagster.model.errors import (
    AnswerLost,
    ClusterError,
    ClusterUnreachable,
    HostKeyRefused,
    LoginRefused,
)
from kraken_dagster_tests.cluster.sshd import HOST, USER, Sshd, make_key
from kraken_dagster_tests.support.helpers import HOSTILE_STEMS, wait_until

pytestmark = pytest.mark.slurm

MB = 1_000_000
# Writes `letter` a number of times.
WRITE = "head -c {count} /dev/zero | tr '\\0' {letter}"
FORKING = """
import os, sys
from pathlib import Path
from kraken_dagster.engines.ssh import HeadNode, Login, shared
port, user, key, known_hosts = sys.argv[1:]
login = Login((HeadNode("127.0.0.1", int(port)),), user, Path(key), Path(known_hosts))
def connection():
    return shared(login).run("echo $SSH_CLIENT").stdout.split()[1]
mine = connection()
child = os.fork()
if not child:
    ok = connection() not in ("", mine) and shared(login).run("exit 4").exit_code == 4
    os._exit(0 if ok else 1)
for _ in range(20):
    assert connection() == mine
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert connection() == mine
grandchild = os.fork()
if not grandchild:
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
assert connection() == mine
"""


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    servers: list[Sshd] = []

    def make(*options: str) -> Sshd:
        folder = tmp_path / f"sshd{len(servers)}"
        folder.mkdir()
        servers.append(Sshd(folder, *options))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def server(make_server: Callable[..., Sshd]) -> Sshd:
    return make_server()


@pytest.fixture
def make_ssh() -> Iterator[Callable[[Login], Ssh]]:
    made: list[Ssh] = []

    def make(login: Login) -> Ssh:
        made.append(Ssh(login))
        return made[-1]

    yield make
    for ssh in made:
        ssh.close()


@pytest.fixture
def ssh(server: Sshd, make_ssh: Callable[[Login], Ssh]) -> Ssh:
    return make_ssh(server.login(timeout_s=60))


class Gate:
    """What commands wait for, and what they have said of themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "gate"
        self.folder.mkdir()

    def command(self, name: str) -> str:
        """Says that it runs, waits a minute at most, says how many ran at the end."""
        here = shlex.quote(str(self.folder))
        return (
            f"cd {here}; touch run.{name}; ls | grep -c ^run >> most; echo {name} >> started;"
            " for i in $(seq 1200); do [ -e open ] && break; sleep 0.05; done;"
            f" rm run.{name}; echo {name}"
        )

    def running(self) -> int:
        return len(list(self.folder.glob("run.*")))

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().split() if path.exists() else []

    def open(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(30) as pool:
        yield pool


@contextmanager
def silent_head() -> Iterator[tuple[HeadNode, list[socket.socket]]]:
    """Takes every connection and never says a word; with those that it took."""
    taken: list[socket.socket] = []

    def take() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield HeadNode(HOST, listener.getsockname()[1]), taken
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for item in taken:
        item.close()


def dead_head() -> HeadNode:
    return HeadNode(HOST, free_port())


def shown_command(error: ClusterError) -> str:
    assert error.next_step is not None
    return re.findall("`(.*)`", error.next_step)[0]


# Streams and exit codes


@pytest.mark.parametrize("code", [0, 1, 7, 127, 255])
def test_the_exit_code_and_both_streams_arrive(ssh: Ssh, code: int) -> None:
    assert ssh.run(f"echo out; echo err >&2; exit {code}") == Answer(code, "out\n", "err\n")


def test_the_exit_code_of_a_command_that_closed_its_streams_arrives(ssh: Ssh) -> None:
    assert ssh.run("exec >&- 2>&-; sleep 0.2; exit 5") == Answer(5, "", "")


@pytest.mark.parametrize("signal", ["KILL", "TERM", "SEGV"])
def test_a_command_that_a_signal_killed_has_128_and_the_connection_is_kept(
    server: Sshd, ssh: Ssh, signal: str
) -> None:
    assert ssh.run(f"echo out; kill -{signal} $$") == Answer(128, "out\n", "")
    assert ssh.run("true").exit_code == 0
    assert server.connections_made() == 1


@pytest.mark.parametrize("joint", ["; ", " & "])
def test_megabytes_on_both_streams_arrive(ssh: Ssh, joint: str) -> None:
    out, err = (WRITE.format(count=5 * MB, letter=letter) for letter in "oe")
    answer = ssh.run(f"({err}) >&2{joint}{out}; wait")
    assert (answer.stdout, answer.stderr) == ("o" * 5 * MB, "e" * 5 * MB)


def test_stdin_arrives_byte_by_byte(ssh: Ssh) -> None:
    data = random.Random(1).randbytes(700_000)
    assert ssh.run("sha256sum", stdin=data).stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_more_than_any_window_goes_in_and_out_at_once(ssh: Ssh) -> None:
    data = random.Random(1).randbytes(4 * MB).hex()
    assert ssh.run("tee /dev/stderr", stdin=data.encode()) == Answer(0, data, data)


def test_without_stdin_its_end_is_there_at_once(ssh: Ssh) -> None:
    assert ssh.run("cat; echo end") == Answer(0, "end\n", "")


def test_a_command_may_leave_its_stdin_alone(
    server: Sshd, ssh: Ssh, threads: ThreadPoolExecutor
) -> None:
    commands = ["true", "exit 3", "head -c 3", "exec <&-; sleep 0.05; exit 4"] * 30
    answers = list(threads.map(lambda line: ssh.run(line, stdin=b"x" * 500_000), commands))
    assert [(item.exit_code, item.stdout) for item in answers] == [
        (0, ""),
        (3, ""),
        (0, "xxx"),
        (4, ""),
    ] * 30
    assert server.connections_made() == 1


def test_many_short_commands_leave_the_connection_alone(
    server: Sshd, ssh: Ssh, threads: ThreadPoolExecutor
) -> None:
    answers = list(threads.map(lambda number: ssh.run(f"exit {number % 50}"), range(200)))
    assert [item.exit_code for item in answers] == [number % 50 for number in range(200)]
    assert server.connections_made() == 1


# What is in a command


@pytest.mark.parametrize("value", [*HOSTILE_STEMS, "", "\r\n", "a\\nb %s ~ ! {a,b}"])
def test_what_the_caller_quotes_arrives_as_it_is(ssh: Ssh, value: str) -> None:
    assert ssh.run(shlex.join(["printf", "%s", value])) == Answer(0, value, "")


def test_bytes_that_are_no_utf_8_go_out_as_they_are_and_come_in_replaced(ssh: Ssh) -> None:
    name = os.fsdecode(b"\xff\xfe")
    assert ssh.run(f"printf %s {name} | od -An -tx1").stdout.split() == ["ff", "fe"]
    assert ssh.run(f"printf %s {name}x; printf %s {name} >&2") == Answer(0, "��x", "��")


def test_a_command_may_be_as_long_as_a_shell_takes_it(ssh: Ssh) -> None:
    longest = 128 * 1024 - 1
    assert ssh.run(": ".ljust(longest, "x")).exit_code == 0
    with pytest.raises(ValueError, match="128 kB"):
        ssh.run(": ".ljust(longest + 1, "x"))


def test_a_command_with_a_nul_is_not_cut_short_but_refused(ssh: Ssh) -> None:
    with pytest.raises(ValueError, match="NUL"):
        ssh.run("touch a\0b")


# Host keys


def test_an_unknown_host_key_is_refused_until_the_shown_command_was_run(
    server: Sshd, ssh: Ssh
) -> None:
    server.known_hosts.write_text("# nobody\nother ssh-ed25519 AAAA\nshort line\n|1|x|y z w\n")
    with pytest.raises(HostKeyRefused) as caught:
        ssh.run("true")
    assert server.fingerprint() in str(caught.value.found)
    assert str(server.known_hosts) == caught.value.file
    assert shown_command(caught.value).startswith(f"ssh-keyscan -p {server.port} {HOST} >> ")
    subprocess.run(shown_command(caught.value), shell=True, check=True, capture_output=True)
    assert ssh.run("exit 3").exit_code == 3


def test_without_a_known_hosts_file_nobody_is_trusted_and_the_shown_command_makes_it(
    server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    path = tmp_path / "it's $(touch pwned) `known` hosts"
    ssh = make_ssh(server.login(known_hosts=path))
    with pytest.raises(HostKeyRefused, match="no such file") as caught:
        ssh.run("true")
    assert server.fingerprint() in str(caught.value.found)
    command = str(caught.value.next_step).partition("with `")[2].rpartition("`")[0]
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=tmp_path)
    assert path.exists()
    assert not (tmp_path / "pwned").exists()
    assert ssh.run("exit 3").exit_code == 3


def test_a_changed_host_key_is_refused_until_the_shown_command_was_run(
    server: Sshd, ssh: Ssh
) -> None:
    before = server.fingerprint()
    assert ssh.run("true").exit_code == 0
    server.stop()
    server.change_host_key()
    server.start()
    with pytest.raises(HostKeyRefused, match="another host key") as caught:
        ssh.run("true")
    assert before in str(caught.value.expected)
    assert server.fingerprint() in str(caught.value.found)
    subprocess.run(shown_command(caught.value), shell=True, check=True, capture_output=True)
    assert ssh.run("exit 3").exit_code == 3


def test_a_known_hosts_file_that_can_not_be_read_is_named(
    server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    with pytest.raises(HostKeyRefused, match="can't be read") as caught:
        make_ssh(server.login(known_hosts=tmp_path)).run("true")
    assert caught.value.file == str(tmp_path)


def test_the_known_hosts_file_is_read_for_every_connection(server: Sshd, ssh: Ssh) -> None:
    assert ssh.run("true").exit_code == 0
    server.known_hosts.write_text("")
    assert ssh.run("true").exit_code == 0
    ssh.close()
    with pytest.raises(HostKeyRefused):
        ssh.run("true")


def test_hashed_names_of_hosts_are_known(server: Sshd, ssh: Ssh) -> None:
    command = ["ssh-keygen", "-H", "-f", str(server.known_hosts)]
    subprocess.run(command, check=True, capture_output=True)
    assert HOST not in server.known_hosts.read_text()
    assert ssh.run("exit 3").exit_code == 3


def test_a_server_with_several_host_keys_shows_the_one_that_is_known(
    make_server: Callable[..., Sshd], make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other", kind="rsa")
    server = make_server(f"HostKey {other}")
    kind, key, *_ = other.with_suffix(".pub").read_text().split()
    server.known_hosts.write_text(f"x,[{HOST}]:{server.port} {kind} {key}\n")
    assert make_ssh(server.login()).run("exit 3").exit_code == 3


def test_a_revoked_key_counts_for_nothing(server: Sshd, ssh: Ssh) -> None:
    server.known_hosts.write_text(f"@revoked {server.known_hosts.read_text()}")
    with pytest.raises(HostKeyRefused):
        ssh.run("true")


# Logins


def assert_names_the_login(error: LoginRefused, server: Sshd, key: Path | str) -> None:
    assert error.file == str(key)
    assert f"{USER} in at {HOST}:{server.port}" in str(error)


def test_a_key_that_the_server_does_not_know_is_refused(
    server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key")
    ssh = make_ssh(server.login(key_file=key))
    with pytest.raises(LoginRefused, match="refuses the login") as caught:
        ssh.run("true")
    assert_names_the_login(caught.value, server, key)
    with (server.folder / "authorized_keys").open("a") as file:
        file.write(key.with_suffix(".pub").read_text())
    assert ssh.run("exit 3").exit_code == 3


def test_a_user_whom_the_server_does_not_know_is_refused(
    server: Sshd, make_ssh: Callable[[Login], Ssh]
) -> None:
    with pytest.raises(LoginRefused, match="lets nobody-of-that-name in"):
        make_ssh(server.login(user="nobody-of-that-name")).run("true")


def test_a_key_with_a_passphrase_is_refused(
    server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key", passphrase="secret")
    with pytest.raises(LoginRefused, match="passphrase") as caught:
        make_ssh(server.login(key_file=key)).run("true")
    assert_names_the_login(caught.value, server, key)


@pytest.mark.parametrize("content", [None, "", "garbage\n", b"\xff\0\xfe", "public"])
def test_a_key_file_that_holds_no_key_is_refused(
    server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path, content: str | bytes | None
) -> None:
    key = tmp_path / "key"
    if content == "public":
        content = server.key.with_suffix(".pub").read_text()
    if content is not None:
        key.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(LoginRefused, match="can't be used") as caught:
        make_ssh(server.login(key_file=key)).run("true")
    assert_names_the_login(caught.value, server, key)


def test_a_folder_is_no_key(server: Sshd, make_ssh: Callable[[Login], Ssh], tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="Is a directory") as caught:
        make_ssh(server.login(key_file=tmp_path)).run("true")
    assert_names_the_login(caught.value, server, tmp_path)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    wait_until(path.exists, "the agent listens")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield
    process.terminate()
    process.wait()


def test_without_a_key_file_the_agent_is_asked(
    server: Sshd, agent: None, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    ssh = make_ssh(server.login(key_file=None))
    with pytest.raises(LoginRefused, match="holds no key") as caught:
        ssh.run("true")
    assert_names_the_login(caught.value, server, "SSH agent")
    for key in (make_key(tmp_path / "other"), server.key):
        subprocess.run(["ssh-add", "-q", key], check=True)
    assert ssh.run("exit 3").exit_code == 3


def test_an_agent_with_too_many_wrong_keys_is_refused(
    server: Sshd, agent: None, make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    for number in range(8):
        key = make_key(tmp_path / f"key{number}")
        subprocess.run(["ssh-add", "-q", key], check=True)
    with pytest.raises(LoginRefused, match="refuses the login"):
        make_ssh(server.login(key_file=None)).run("true")


def test_without_an_agent_the_login_is_refused(
    server: Sshd, make_ssh: Callable[[Login], Ssh], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(LoginRefused, match="holds no key"):
        make_ssh(server.login(key_file=None)).run("true")


# Head nodes


def test_a_connection_is_held_and_waits_for_nothing(
    server: Sshd, ssh: Ssh, threads: ThreadPoolExecutor
) -> None:
    made = list(threads.map(lambda _: ssh.run("echo $SSH_CLIENT").stdout, range(40)))
    assert len(set(made)) == 1
    assert server.connections_made() == 1
    transport = connect(server.login(), server.head)
    assert transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    transport.close()


def test_a_closed_client_makes_a_new_connection(server: Sshd, ssh: Ssh) -> None:
    assert ssh.run("true").exit_code == 0
    ssh.close()
    assert ssh.run("true").exit_code == 0
    assert server.connections_made() == 2


def test_every_head_that_can_not_be_reached_is_named_with_its_reason(
    make_ssh: Callable[[Login], Ssh], tmp_path: Path
) -> None:
    with silent_head() as (silent, _):
        dead, unknown = dead_head(), HeadNode("no-such-host.invalid")
        heads = (dead, silent, unknown)
        ssh = make_ssh(Login(heads, "somebody", None, tmp_path / "known_hosts", timeout_s=1))
        with pytest.raises(ClusterUnreachable) as caught:
            ssh.run("true")
    reasons = dict(item.rsplit(": ", 1) for item in str(caught.value.found).split("; "))
    assert reasons[str(dead)] == "Connection refused"
    assert reasons[str(silent)] == "no SSH handshake within 1 s"
    assert str(unknown) in str(caught.value.found)
    assert caught.value.transient
    assert "somebody@no-such-host.invalid:22" in str(caught.value.file)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-1.5-old\r\n"])
def test_something_that_is_no_ssh_server_is_not_reached(
    make_ssh: Callable[[Login], Ssh], tmp_path: Path, says: bytes
) -> None:
    with socket.create_server((HOST, 0)) as listener:

        def speak() -> None:
            taken, _ = listener.accept()
            taken.sendall(says)
            taken.close()

        thread = threading.Thread(target=speak)
        thread.start()
        head = HeadNode(HOST, listener.getsockname()[1])
        with pytest.raises(ClusterUnreachable, match=str(head)):
            make_ssh(Login((head,), "somebody", None, tmp_path / "known_hosts")).run("true")
        thread.join()


def test_the_next_head_is_tried_and_the_one_that_worked_last_is_tried_first(
    server: Sshd, make_ssh: Callable[[Login], Ssh]
) -> None:
    with silent_head() as (silent, taken):
        ssh = make_ssh(server.login(dead_head(), silent, timeout_s=10))
        assert ssh.run("exit 3").exit_code == 3
        assert len(taken) == 1
        for _ in range(2):
            ssh.close()
            assert ssh.run("exit 3").exit_code == 3
        assert len(taken) == 1
        assert server.connections_made() == 3


@pytest.fixture
def pair(make_server: Callable[..., Sshd]) -> tuple[Sshd, Sshd]:
    """Two head nodes; the login of the first one is good for both."""
    first, second = make_server(), make_server()
    with first.known_hosts.open("a") as file:
        file.write(second.known_hosts.read_text())
    public = first.key.with_suffix(".pub").read_text()
    (second.folder / "authorized_keys").write_text(public)
    return first, second


def port_of_answer(ssh: Ssh) -> int:
    return int(ssh.run("echo $SSH_CONNECTION").stdout.split()[3])


def test_when_the_head_that_worked_goes_down_another_one_is_used(
    pair: tuple[Sshd, Sshd], make_ssh: Callable[[Login], Ssh]
) -> None:
    first, second = pair
    ssh = make_ssh(first.login(second.head))
    for server, other in ((second, first), (first, second)):
        assert port_of_answer(ssh) == server.port
        server.stop()
        assert port_of_answer(ssh) == other.port
        server.start()


def test_when_the_head_that_worked_freezes_another_one_is_used(
    pair: tuple[Sshd, Sshd], make_ssh: Callable[[Login], Ssh]
) -> None:
    first, second = pair
    ssh = make_ssh(first.login(second.head, timeout_s=10))
    assert port_of_answer(ssh) == second.port
    with second.frozen():
        assert port_of_answer(ssh) == first.port
    assert port_of_answer(ssh) == first.port


def test_the_most_telling_refusal_is_raised(
    make_server: Callable[..., Sshd], make_ssh: Callable[[Login], Ssh]
) -> None:
    server, stranger = make_server(), make_server()
    stranger.known_hosts.write_text(server.known_hosts.read_text())
    login = stranger.login(dead_head(), server.head)  # with a key that `server` doesn't know
    with pytest.raises(HostKeyRefused, match=str(stranger.port)):
        make_ssh(login).run("true")
    with pytest.raises(LoginRefused, match=str(server.port)):
        make_ssh(replace(login, heads=(login.heads[1], dead_head()))).run("true")
    assert make_ssh(server.login(stranger.head)).run("exit 3").exit_code == 3


# Connections that are lost


@pytest.mark.parametrize("restart", [False, True])
def test_a_connection_that_was_lost_meanwhile_is_replaced(
    server: Sshd, ssh: Ssh, restart: bool
) -> None:
    for _ in range(3):
        assert ssh.run("exit 3").exit_code == 3
        if restart:
            server.stop()
            server.start()
        else:
            server.kill_sessions()


def test_a_command_whose_connection_is_lost_is_not_repeated_and_its_end_not_known(
    server: Sshd, ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    for number in range(5):
        running = threads.submit(ssh.run, gate.command(str(number)))
        wait_until(lambda count=number + 1: len(gate.lines("started")) == count, "it runs")
        server.kill_sessions()
        with pytest.raises(AnswerLost, match="connection") as caught:
            running.result()
        assert caught.value.file == f"{USER}@{HOST}:{server.port}"
        assert ssh.run("exit 3").exit_code == 3
    assert gate.running() == 5
    gate.open()
    wait_until(lambda: gate.running() == 0, "the commands end")
    assert gate.lines("started") == ["0", "1", "2", "3", "4"]


def test_output_that_was_cut_off_is_no_answer(
    server: Sshd, ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    running = threads.submit(ssh.run, f"echo half; {gate.command('a')}")
    wait_until(gate.running, "it runs")
    server.stop()
    with pytest.raises(AnswerLost):
        running.result()
    with pytest.raises(ClusterUnreachable, match="Connection refused"):
        ssh.run("true")


def test_closing_the_client_ends_the_wait(
    ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    running = threads.submit(ssh.run, gate.command("a"))
    wait_until(gate.running, "it runs")
    ssh.close()
    with pytest.raises(AnswerLost):
        running.result()
    gate.open()


def test_a_command_that_takes_too_long_harms_no_other_and_keeps_no_place(
    server: Sshd, ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    other = threads.submit(ssh.run, gate.command("other"))
    wait_until(gate.running, "the other runs")
    for number in range(8):
        with pytest.raises(AnswerLost, match=r"no end after 0\.5 s"):
            ssh.run(gate.command(str(number)), timeout_s=0.5)
    assert ssh.run("exit 3").exit_code == 3
    gate.open()
    assert other.result() == Answer(0, "other\n", "")


@pytest.mark.parametrize("stdin", [b"", b"x" * 8 * MB], ids=["no input", "8 MB of input"])
def test_a_server_that_freezes_under_a_command_costs_the_timeout_only(
    server: Sshd, make_ssh: Callable[[Login], Ssh], gate: Gate, stdin: bytes
) -> None:
    ssh = make_ssh(server.login(timeout_s=3))
    assert ssh.run("true", timeout_s=60).exit_code == 0
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ssh.run, gate.command("a"), stdin=stdin, timeout_s=3)
        wait_until(gate.running, "it runs")
        with server.frozen():
            with pytest.raises(AnswerLost, match="no end after 3 s"):
                running.result()
            with pytest.raises(ClusterUnreachable, match="no SSH handshake within 3 s"):
                ssh.run("true")
    gate.open()
    assert wait_until(lambda: mended(ssh), "the server answers") == 3


def test_a_frozen_server_starts_no_command(server: Sshd, make_ssh: Callable[[Login], Ssh]) -> None:
    ssh = make_ssh(server.login(timeout_s=3))
    assert ssh.run("true", timeout_s=60).exit_code == 0
    with server.frozen():
        for _ in range(3):
            with pytest.raises(ClusterUnreachable, match="not started"):
                ssh.run("true", timeout_s=0.1)
    assert wait_until(lambda: mended(ssh), "the server answers") == 3


def mended(ssh: Ssh) -> int | None:
    with suppress(ClusterUnreachable, AnswerLost):
        return ssh.run("exit 3").exit_code
    return None


# Many at once


def test_of_many_commands_six_run_at_once(
    server: Sshd, ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    names = [str(number) for number in range(30)]
    running = [threads.submit(ssh.run, gate.command(name), timeout_s=100) for name in names]
    wait_until(lambda: gate.running() == 6, "six run")
    gate.open()
    assert [item.result().stdout.strip() for item in running] == names
    assert max(map(int, gate.lines("most"))) == 6
    assert sorted(gate.lines("started")) == sorted(names)
    assert server.connections_made() == 1


def test_who_waits_for_a_turn_waits_as_long_as_its_timeout(
    ssh: Ssh, gate: Gate, threads: ThreadPoolExecutor
) -> None:
    running = [threads.submit(ssh.run, gate.command(str(number))) for number in range(6)]
    wait_until(lambda: gate.running() == 6, "six run")
    with pytest.raises(ClusterUnreachable, match=r"turn within 0\.2 s"):
        ssh.run("true", timeout_s=0.2)
    gate.open()
    assert [item.result().exit_code for item in running] == [0] * 6
    assert ssh.run("exit 3").exit_code == 3


def test_a_server_with_fewer_sessions_is_waited_for(
    make_server: Callable[..., Sshd],
    make_ssh: Callable[[Login], Ssh],
    gate: Gate,
    threads: ThreadPoolExecutor,
) -> None:
    server = make_server("MaxSessions 2")
    ssh = make_ssh(server.login())
    names = [str(number) for number in range(12)]
    running = [threads.submit(ssh.run, gate.command(name), timeout_s=100) for name in names]
    wait_until(lambda: gate.running() == 2, "two run")
    with pytest.raises(ClusterUnreachable):
        ssh.run("true", timeout_s=0.5)
    gate.open()
    assert [item.result().stdout.strip() for item in running] == names
    assert max(map(int, gate.lines("most"))) == 2
    assert server.connections_made() == 1


def test_a_server_without_sessions_starts_no_command(
    make_server: Callable[..., Sshd], make_ssh: Callable[[Login], Ssh]
) -> None:
    server = make_server("MaxSessions 0")
    with pytest.raises(ClusterUnreachable, match="no more sessions"):
        make_ssh(server.login()).run("true", timeout_s=0.5)


# One client for a process


def test_a_login_has_one_client(server: Sshd, tmp_path: Path) -> None:
    login = server.login()
    client = shared(login)
    assert client is shared(replace(login))
    assert client is not shared(replace(login, user="other"))
    assert client.run("exit 3").exit_code == 3
    client.close()


def test_a_child_after_a_fork_has_a_connection_of_its_own(server: Sshd) -> None:
    where = [str(server.port), USER, str(server.key), str(server.known_hosts)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, *where],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert server.connections_made() == 2


def test_errors_of_paramiko_are_not_printed(server: Sshd) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from kraken_dagster.engines.ssh import *\n"
        "login = Login((HeadNode('127.0.0.1', int(sys.argv[1])),), 'u', None, Path('none'), 1)\n"
        "try:\n"
        "    Ssh(login).run('true')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    with silent_head() as (head, _):
        command = [sys.executable, "-c", program, str(head.port)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ClusterUnreachable\n", "")
