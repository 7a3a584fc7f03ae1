"""Where something runs: a namespace of a lab, or the machine itself (`HOST`).

A place starts processes and opens sockets. Sockets of a namespace are used from the test's own process, so a
"guest" or a "server in the internet" is ordinary code here with a socket from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass


PATIENCE = 60.0
"""Seconds for what comes soon: only a test that fails waits as long, however busy the machine is."""


@dataclass
class Finished:
    code: int
    out: str


class CommandFailed(Exception):
    """A command in a place ended with a status other than 0; the text holds what it printed."""


class Process:
    """A started process, held by its pidfd, so that no signal can reach a stranger with a reused PID."""

    def __init__(self, pidfd: int, exit_code, stdin=None, stdout=None) -> None:
        self.pidfd = pidfd
        self.stdin = stdin
        self.stdout = stdout
        self._exit_code = exit_code
        self._code: int | None = None

    @property
    def host_pid(self) -> int:
        """The PID as this program sees it (0 once the process has ended)."""
        return pid_of(self.pidfd)

    def poll(self) -> int | None:
        """Exit status (negative: the signal), or None while it runs."""
        if self._code is None and self._ended(0):
            self._code = self._exit_code()
        return self._code

    def wait(self, timeout: float = PATIENCE) -> int:
        if self._code is None:
            if not self._ended(timeout):
                raise TimeoutError(f"still running after {timeout} s")
            self._code = self._exit_code()
        return self._code

    def _ended(self, timeout: float) -> bool:
        poll = select.poll()  # select() takes no descriptor above 1023
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def __del__(self) -> None:
        os.close(self.pidfd)

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def kill(self) -> None:
        """`kill -9`, and wait for it to be over."""
        self.send_signal(signal.SIGKILL)
        self.wait()

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM; SIGKILL when that does not end it in time."""
        self.send_signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except TimeoutError:
            self.kill()
            return self.wait()

    def memory_kib(self) -> dict[str, int]:
        """`VmRSS`, `RssAnon`, ... of /proc/PID/status, in KiB."""
        with open(f"/proc/{self.host_pid}/status") as status:
            rows = (line.split() for line in status if line.startswith(("Vm", "Rss")))
            return {row[0].rstrip(":"): int(row[1]) for row in rows}


class Place:
    """What a namespace and the host have in common."""

    name: str

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        raise NotImplementedError

    def _spawn(self, argv: list[str], fds: list[int], env: dict[str, str], cwd: str | None) -> tuple[int, object]:
        raise NotImplementedError

    def spawn(
        self, argv: list[str], *, env: dict[str, str] | None = None, cwd: str | None = None, log: str | None = None,
        pipe_in: bool = False, pipe_out: bool = False,
    ) -> Process:
        """Starts `argv`. Output goes to the file `log`, or to a pipe (`pipe_out`), else nowhere."""
        environment = dict(os.environ)
        environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"  # not everybody's PATH has nft
        environment.update(env or {})
        with contextlib.ExitStack() as theirs:
            def open_fd(fd: int) -> int:
                theirs.callback(os.close, fd)
                return fd

            if pipe_in:
                read, write = os.pipe()
                stdin, to_child = open_fd(read), os.fdopen(write, "wb", buffering=0)
            else:
                stdin, to_child = open_fd(os.open(os.devnull, os.O_RDONLY)), None
            from_child = None
            if pipe_out:
                read, write = os.pipe()
                stdout, from_child = open_fd(write), os.fdopen(read, "rb")
            else:
                stdout = open_fd(os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
            pidfd, exit_code = self._spawn(argv, [stdin, stdout, stdout], environment, cwd)
        return Process(pidfd, exit_code, to_child, from_child)

    def run(
        self,
        argv: list[str],
        *,
        input: str = "",
        check: bool = True,
        timeout: float = PATIENCE,
        env: dict[str, str] | None = None,
    ) -> Finished:
        """Runs a command to its end; standard output and error come back together."""
        process = self.spawn(argv, env=env, pipe_in=True, pipe_out=True)
        timer = threading.Timer(timeout, process.send_signal, [signal.SIGKILL])
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(input.encode())
            process.stdin.close()
            out = process.stdout.read().decode(errors="replace")
            code = process.wait(timeout)
        finally:
            timer.cancel()
            process.stdout.close()
        if check and code != 0:
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: status {code}\n{out}")
        return Finished(code, out)

    def connect(self, host: str, port: int, timeout: float = PATIENCE, *, source: str | None = None) -> socket.socket:
        """A TCP connection from here to an address (v4 or v6, no names)."""
        made = self.socket(_family(host))
        made.settimeout(timeout)
        try:
            if source:
                made.bind((source, 0))
            made.connect((host, port))
        except OSError:
            made.close()
            raise
        return made

    def listen(self, host: str, port: int = 0, backlog: int = 128) -> socket.socket:
        """A TCP listener; port 0 takes a free one."""
        made = self.socket(_family(host))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(backlog)
        return made

    def udp(self, host: str = "0.0.0.0", port: int = 0) -> socket.socket:
        made = self.socket(_family(host), socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        return made


class HostPlace(Place):
    """The machine itself. Its processes die with the thread that started them: start them from the main one."""

    name = "host"

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        return socket.socket(family, kind, protocol)

    def _spawn(self, argv, fds, env, cwd):
        child = subprocess.Popen(
            argv, stdin=fds[0], stdout=fds[1], stderr=fds[2], env=env, cwd=cwd, start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        return os.pidfd_open(child.pid), child.wait


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


class Space(Place):
    """A namespace of a lab, reached through the lab's agent."""

    def __init__(self, agent: "AgentLink", name: str) -> None:
        self.agent = agent
        self.name = name
        self.pid = 1
        """The process that holds the namespaces, in the lab's own numbering ..."""
        self.host_pid = 0
        """... and in the host's."""

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        _, fds = self.agent.ask("socket", space=self.name, family=int(family), kind=int(kind), protocol=protocol)
        return socket.socket(family, kind, protocol, fileno=fds[0])

    def _spawn(self, argv, fds, env, cwd):
        reply, received = self.agent.ask("spawn", fds, space=self.name, argv=list(argv), env=env, cwd=cwd)
        pid = reply["pid"]
        return received[0], lambda: self.agent.exit_code(pid)

    def sysctl(self, **values: object) -> None:
        """`sysctl(net__ipv4__ip_forward=1)`: two underscores stand for the dot."""
        self.run(["sysctl", "-qw"] + [f"{key.replace('__', '.')}={value}" for key, value in values.items()])

    def nft(self, script: str, check: bool = True) -> str:
        return self.run(["nft", "-f", "-"], input=script, check=check).out

    def ip(self, script: str) -> None:
        """Lines for `ip -batch`."""
        self.run(["ip", "-batch", "-"], input=script)


class AgentLink:
    """The line to a lab's first process (see `agent.py`)."""

    def __init__(self, directory: str) -> None:
        self.lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.py")
        as_root = [] if os.geteuid() == 0 else ["-Ur"]
        with theirs:
            theirs.set_inheritable(True)
            self.process = subprocess.Popen(
                [
                    "unshare",
                    *as_root,
                    "-mnpf",
                    "--kill-child",
                    sys.executable,
                    "-ISB",
                    script,
                    str(theirs.fileno()),
                    directory,
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self.control = ours
        ours.settimeout(PATIENCE)
        if not ours.recv(4096):
            problem = self.process.stderr.read().decode().strip()
            raise RuntimeError(f"namespaces cannot be made here: {problem or 'no reason given'}")

    def ask(self, do: str, fds: list[int] | None = None, **arguments) -> tuple[dict, list[int]]:
        with self.lock:
            socket.send_fds(self.control, [json.dumps({"do": do, **arguments}).encode()], fds or [])
            data, received, _, _ = socket.recv_fds(self.control, 1 << 20, 4)
        if not data:
            raise RuntimeError("the lab has ended")
        reply = json.loads(data)
        if "error" in reply:
            raise OSError(reply["error"])
        return reply, list(received)

    def exit_code(self, pid: int) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            code = self.ask("exit_code", pid=pid)[0]["code"]
            if code is not None:
                return code
            time.sleep(0.002)
        raise RuntimeError("a process ended without a status")

    def close(self) -> None:
        """Ends every process of the lab, and waits until the kernel has done so."""
        self.control.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stderr.close()


def wait_for(condition, limit: float = 10.0, what: str = "", every: float = 0.02):
    """The first true answer of `condition`, looked at again and again.

    `limit` seconds are enough where nothing else runs; a busy machine is given `PATIENCE`, so this is no measure of
    how long something takes (see `in_time`). An `OSError` or `AssertionError` of the condition counts as "not yet" and
    is shown if the time runs out.
    """
    limit = max(limit, PATIENCE)
    deadline = time.monotonic() + limit
    last: BaseException | None = None
    while True:
        try:
            answer = condition()
            if answer:
                return answer
            last = None
        except (OSError, AssertionError) as error:
            last = error
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise TimeoutError(f"not within {limit} s: {name}") from last
        time.sleep(every)


def answer_when(fits, ask, limit: float = 10.0, what: str = "", every: float = 0.02):
    """The first answer of `ask` that fits, as `wait_for` waits."""

    def fitting():
        answer = ask()
        return (answer,) if fits(answer) else None

    return wait_for(fitting, limit, what, every)[0]


def in_time(limit: float, attempt, times: int = 4) -> None:
    """One of a few attempts must take less than `limit` seconds: a busy machine may hold one up, but not each.

    `attempt()` may answer how many seconds it took; otherwise the call is measured.
    """
    took: list[float] = []
    while not took or took[-1] >= limit:
        assert len(took) < times, f"it took {took} s, each time more than {limit}"
        began = time.monotonic()
        answer = attempt()
        took.append(time.monotonic() - began if answer is None else answer)


def pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as info:
        return max(0, next(int(line.split()[1]) for line in info if line.startswith("Pid:")))


def free_ports(count: int) -> list[int]:
    """TCP ports of the host's loopback for peers that this process starts, and may start again: until it ends nobody
    else is given them, by us or by the kernel.
    """
    ports: list[int] = []
    while len(ports) < count:
        # Below those from which the kernel serves outgoing connections.
        port = random.SystemRandom().randrange(16_384, 32_768)
        held = HOST.socket(socket.AF_INET)
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            continue
        # Bound without this it refused a second holder; with it the peer, who sets it as well, may listen beside us.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _HELD.append(held)
        ports.append(port)
    return ports


_HELD: list[socket.socket] = []


def reset_on_close(made: socket.socket) -> None:
    """Closing will send a reset, as a peer does that crashed."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


HOST = HostPlace()
