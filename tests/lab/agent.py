"""First process of a lab: lives in the router's namespaces and starts everything else.

Run as PID 1 of a PID namespace of its own, so that when it ends - told to, or because the program that
started it is gone, however that died - the kernel ends every process of the lab with it, and with them
the namespaces. It speaks one JSON object per datagram over a SOCK_SEQPACKET socket: it starts processes
in a named namespace, opens sockets there, and hands their descriptors over. Standard library only.

Usage: agent.py FD DIRECTORY. The lab's directory goes last, whoever ended the lab.
"""

import array
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args) -> None:
    if getattr(LIBC, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Agent:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.exits: dict[int, int] = {}
        self.spaces: dict[str, tuple[int, int, int]] = {"router": self.space_of("self")}

    def space_of(self, process: str) -> tuple[int, int, int]:
        """Network and mount namespace of a process, and its PID (0 for ourselves)."""
        net = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        mount = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        return net, mount, int(process) if process != "self" else os.getpid()

    def serve(self) -> None:
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        while True:
            ready, _, _ = select.select([self.control, wake_read], [], [])
            if wake_read in ready:
                os.read(wake_read, 4096)
            self.reap()
            if self.control in ready and not self.answer():
                return

    def reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.exits[pid] = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            pass

    def answer(self) -> bool:
        data, ancillary, _, _ = self.control.recvmsg(1 << 20, socket.CMSG_SPACE(16 * 4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        if not data:
            return False
        handed_over: list[int] = []
        try:
            request = json.loads(data)
            reply, handed_over = getattr(self, "do_" + request.pop("do"))(fds=list(fds), **request)
        except Exception as error:  # every failure is the caller's to see
            reply = {"error": f"{type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed_over))] if handed_over else []
        self.control.sendmsg([json.dumps(reply).encode()], rights)
        for fd in handed_over:
            os.close(fd)
        return True

    def do_add_space(self, fds, name):
        ready_read, ready_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                call("unshare", CLONE_NEWNS | CLONE_NEWNET)
                call("mount", b"sysfs", b"/sys", b"sysfs", 0, None)
                os.write(ready_write, b"+")
                self.control.close()
                os.closerange(0, 3)
                while True:
                    signal.pause()
            except OSError as error:
                os.write(ready_write, str(error).encode())
            finally:
                os._exit(1)
        os.close(ready_write)
        result = os.read(ready_read, 4096)
        os.close(ready_read)
        if result != b"+":
            raise OSError(result.decode())
        self.spaces[name] = self.space_of(str(pid))
        return {"pid": pid}, [os.pidfd_open(pid)]

    def do_spawn(self, fds, space, argv, env, cwd):
        """Starts a process with the three descriptors as its stdio; answers its PID and a pidfd."""
        net, mount, _ = self.spaces[space]
        failed_read, failed_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                for restored in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
                    signal.signal(restored, signal.SIG_DFL)
                os.setsid()
                if space != "router":
                    call("setns", net, CLONE_NEWNET)
                    call("setns", mount, CLONE_NEWNS)
                if cwd:
                    os.chdir(cwd)
                for number, fd in enumerate(fds):
                    os.dup2(fd, number, inheritable=True)
                os.execvpe(argv[0], argv, env)
            except BaseException as error:
                os.write(failed_write, f"{argv[0]}: {error}".encode())
            finally:
                os._exit(127)
        os.close(failed_write)
        problem = os.read(failed_read, 4096)
        os.close(failed_read)
        if problem:
            raise OSError(problem.decode())
        return {"pid": pid}, [os.pidfd_open(pid)]

    def do_exit_code(self, fds, pid):
        self.reap()
        return {"code": self.exits.get(pid)}, []

    def do_socket(self, fds, space, family, kind, protocol):
        """A socket belongs for life to the network namespace it was made in, wherever it is used."""
        call("setns", self.spaces[space][0], CLONE_NEWNET)
        try:
            made = socket.socket(family, kind, protocol)
        finally:
            call("setns", self.spaces["router"][0], CLONE_NEWNET)
        return {}, [made.detach()]

    def do_pids(self, fds):
        """The PIDs, in the lab's own numbering, of all its live processes."""
        return {"pids": [int(name) for name in os.listdir("/proc") if name.isdigit()]}, []


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    call("mount", b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    call("mount", b"proc", b"/proc", b"proc", 0, None)
    call("mount", b"sysfs", b"/sys", b"sysfs", 0, None)
    agent = Agent(control)
    control.sendmsg([b'{"ready": true}'])
    agent.serve()
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # all but us: nobody writes there any more
    if unmounted(sys.argv[2]):
        shutil.rmtree(sys.argv[2], ignore_errors=True)


def unmounted(directory: str) -> bool:
    """Whether nothing is mounted below any more: deleting must never reach through a mount into the machine's own
    files.
    """
    def mounts() -> list[str]:
        with open("/proc/self/mounts") as file:
            return [line.split()[1] for line in file if line.split()[1].startswith(directory.rstrip("/") + "/")]

    for path in reversed(mounts()):
        with contextlib.suppress(OSError):
            call("umount2", path.encode(), 2)  # MNT_DETACH
    return not mounts()


if __name__ == "__main__":
    main()
