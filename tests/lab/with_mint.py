"""Runs a command beside a real mint on loopback: `with_mint.py -- cargo test --test mint_client`.

The command finds the mint at `TOLLGATED_TEST_MINT`, its control (POST /pay/HASH, /rotate, /set) at
`TOLLGATED_TEST_MINT_CTL`, nutshell's wallet, the `cashu` command, at `TOLLGATED_TEST_CASHU`, and invoices over 100 sat
of nobody in particular in `TOLLGATED_TEST_INVOICES`. The mint ends with the command; the status is the command's.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import invoices
from lab.nutshell import Nutshell
from lab.place import HOST, free_ports


def main() -> int:
    if len(sys.argv) < 3 or sys.argv[1] != "--":
        print("usage: with_mint.py -- COMMAND...", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="tollgated-mint-") as directory:
        port, ctl_port = free_ports(2)
        with Nutshell(HOST, dir=directory, port=port, ctl_port=ctl_port) as mint:
            env = dict(os.environ, TOLLGATED_TEST_MINT=mint.url, TOLLGATED_TEST_MINT_CTL=mint.ctl_url)
            env["TOLLGATED_TEST_CASHU"] = os.path.join(os.path.dirname(sys.executable), "cashu")
            env["TOLLGATED_TEST_INVOICES"] = " ".join(invoices.make(100).request for _ in range(16))
            return subprocess.run(sys.argv[2:], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
