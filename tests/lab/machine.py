"""A router with a kernel and a processor of its own, emulated whole, in place of the lab's router.

	guest eth0 -- guest1 ~~~ br-guest [machine] wan ~~~ wan -- eth0 [internet]

~~~ is a wire of ours: it carries frames between a device in the lab's router namespace, which is a patch panel here,
and the emulator's network card. So nothing of it needs more rights than a lab.
"""

import contextlib
import ctypes
import fcntl
import os
import re
import select
import shlex
import socket
import struct
import threading
import time
from dataclasses import dataclass

from . import firewall, foreign, initramfs
from .guest import ROUTER4, ROUTER6
from .internet import UPLINK4, UPLINK6
from .namespaces import BRIDGE, Lab
from .place import Finished, Space

GUEST_MAC, WAN_MAC = "02:00:00:00:00:fe", "02:00:00:00:00:fd"


@dataclass
class Model:
    """How a processor is emulated: its name in Debian and Debian's kernel for it, qemu's command, the network card and
    its driver.
    """

    arch: str
    kernel: str
    qemu: list[str]
    console: str
    card: str
    drivers: list[str]


VIRT = ["virtio_net", "virtio_mmio"]
MODELS = {
    "mipsel_24kc": Model(
        "mipsel",
        "linux-image-4kc-malta",
        ["qemu-system-mipsel", "-M", "malta", "-cpu", "24Kc", "-m", "128"],
        "ttyS0",
        "pcnet,romfile=",
        ["pcnet32"],
    ),
    "aarch64_cortex-a53": Model(
        "arm64",
        "linux-image-cloud-arm64",
        ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "256"],
        "ttyAMA0",
        "virtio-net-device",
        VIRT,
    ),
    "arm_cortex-a7_neon-vfpv4": Model(
        "armhf",
        "linux-image-armmp",
        ["qemu-system-arm", "-M", "virt", "-cpu", "cortex-a7", "-m", "256"],
        "ttyAMA0",
        "virtio-net-device",
        VIRT,
    ),
}

# The first process. What a router's own scripts do before the daemon starts, and then a shell on the console for the
# tests.
INIT = f"""#!/bin/busybox sh
/bin/busybox mkdir -p /dev /proc /sys /run /sbin /usr/sbin /usr/bin
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
set -e # if anything fails, this process ends, and with it the machine
stty -echo -onlcr
for module in $(cat /lib/modules/order); do insmod /lib/modules/$module; done
sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
ip link set lo up
for device in /sys/class/net/*; do
	case $(cat $device/address) in
	{GUEST_MAC}) ip link set ${{device##*/}} name lan1 ;;
	{WAN_MAC}) ip link set ${{device##*/}} name wan ;;
	esac
done
brctl addbr {BRIDGE}
brctl addif {BRIDGE} lan1
for device in lan1 {BRIDGE} wan; do ip link set $device up; done
ip addr add {ROUTER4}/24 dev {BRIDGE}
ip addr add {ROUTER6}/64 dev {BRIDGE}
ip addr add 203.0.113.2/24 dev wan
ip addr add 2001:db8::2/64 dev wan
ip route add default via {UPLINK4}
ip -6 route add default via {UPLINK6}
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.netfilter.nf_conntrack_max=16384
nft -f /etc/firewall.nft
dmesg -n 1
set +e
echo "the router is up"
while :; do sh; done
"""


class Machine:
    """Started at once; back when its shell answers. `files` go into its memory disk."""

    def __init__(self, lab: Lab, model: Model, files: dict[str, tuple[int, bytes]], patience: float = 120.0) -> None:
        self.patience = patience
        self.heard = bytearray()
        self.changed = threading.Condition()
        self.number = 0
        root = foreign.fetch(model.arch, model.kernel)
        disk = lab.path("initramfs")
        files = {"init": (0o755, INIT.encode()), "etc/firewall.nft": (0o644, firewall.BASE.encode()), **files}
        with open(disk, "wb") as file:
            file.write(initramfs.build(root, files, model.drivers))
        with contextlib.ExitStack() as undo:
            self.guest_wire = undo.enter_context(Wire(lab, "guest1"))
            self.wan_wire = undo.enter_context(Wire(lab, "wan"))
            argv = [
                *model.qemu, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-kernel", initramfs.kernel(root), "-initrd", disk, "-append", f"console={model.console} panic=-1",
            ]
            for name, wire, mac in (("guest", self.guest_wire, GUEST_MAC), ("wan", self.wan_wire, WAN_MAC)):
                argv += [
                    "-netdev",
                    f"socket,id={name},{wire.option}",
                    "-device",
                    f"{model.card},netdev={name},mac={mac}",
                ]
            self.process = lab.router.spawn(argv, pipe_in=True, pipe_out=True)
            undo.callback(self.process.kill)
            threading.Thread(target=self._listen, daemon=True).start()
            self._hear(rb"the router is up\r?\n", patience)
            self.undo = undo.pop_all()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_) -> None:
        self.undo.close()

    def run(self, command: str | list[str], check: bool = True, timeout: float | None = None) -> Finished:
        """A command in the machine's shell; standard output and error come back together."""
        if not isinstance(command, str):
            command = shlex.join(command)
        self.number += 1
        begin, end = f"<{self.number}>", f"</{self.number}>"
        # Cut in two for the shell, so that an echo of the line is not taken for its answer.
        line = f"echo '<''{self.number}>'; ( {command}\n) </dev/null 2>&1; echo '<''/{self.number}>'$?\n"
        self.process.stdin.write(line.encode())
        found = self._hear(rf"{begin}\r?\n(.*?){end}(\d+)\r?\n".encode(), timeout or self.patience)
        done = Finished(int(found.group(2)), found.group(1).decode(errors="replace").replace("\r\n", "\n"))
        if check and done.code != 0:
            raise RuntimeError(f"on the router: {command}: status {done.code}\n{done.out}")
        return done

    def _listen(self) -> None:
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            with self.changed:
                self.heard += chunk
                self.changed.notify_all()

    def _hear(self, pattern: bytes, timeout: float) -> re.Match:
        """Waits until the console has said this; what was said up to there is done with."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while not (found := re.search(pattern, bytes(self.heard), re.S)):
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise RuntimeError(
                        (
                            "the emulated router does not answer; its console:\n"
                            f"{self.heard.decode(errors='replace')[-4000:]}"
                        )
                    )
                self.changed.wait(min(left, 1))
            del self.heard[: found.end()]
            return found


class Wire:
    """Carries frames between a device and the emulator, which send and receive them as datagrams on the namespace's
    loopback.
    """

    def __init__(self, lab: Lab, device: str) -> None:
        self.arp_requests: list[str] = []
        """Addresses that the machine called for here, one a request."""
        self.closing = False
        with contextlib.ExitStack() as undo:
            self.device = undo.enter_context(
                lab.router.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            )  # ETH_P_ALL
            self.device.bind((device, 0))
            self.emulator = undo.enter_context(lab.router.udp("127.0.0.1"))
            with lab.router.udp("127.0.0.1") as free:
                self.theirs = free.getsockname()
            self.undo = undo.pop_all()
        self.option = f"udp=127.0.0.1:{self.emulator.getsockname()[1]},localaddr=127.0.0.1:{self.theirs[1]}"
        self.carrier = threading.Thread(target=self._carry, daemon=True)
        self.carrier.start()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_) -> None:
        self.closing = True
        self.carrier.join()
        self.undo.close()

    def _carry(self) -> None:
        while not self.closing:
            ready, _, _ = select.select([self.device, self.emulator], [], [], 0.2)
            with contextlib.suppress(OSError):  # nobody there yet, or any more
                if self.device in ready:
                    frame, origin = self.device.recvfrom(65536)
                    if origin[2] != socket.PACKET_OUTGOING:
                        self.emulator.sendto(frame, self.theirs)
            with contextlib.suppress(OSError):
                if self.emulator in ready:
                    frame = self.emulator.recv(65536)
                    if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1":
                        self.arp_requests.append(socket.inet_ntoa(frame[38:42]))
                    self.device.send(frame)


def make_room(lab: Lab) -> None:
    """The lab's router becomes a patch panel: no addresses, no bridge, no forwarding, and neighbours that send whole
    frames.
    """
    lab.router.sysctl(
        net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0, net__ipv6__conf__all__disable_ipv6=1
    )
    lab.router.ip(f"link del {BRIDGE}\naddr flush dev wan\n")
    for space in (lab.guest, lab.internet):
        checksums_in_full(space, "eth0")


SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17


def checksums_in_full(space: Space, device: str) -> None:
    """Between namespaces the kernel leaves checksums out, which a real wire must have."""
    order = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    with space.udp() as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(order)))
