#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile code in the vmm and in each helper: whatever it tries is refused, for root and for users,
on both engines, and for the most part also where the filter of system calls would not hold.

The programs are copies of Anima's with hook.c in them, which tell what came of each attempt; see
attempts.c for the list."""
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from anima_test import ANIMA, PAYLOAD, PATIENCE, AnimaTest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from confine import confine

ESCAPE = os.environ["ANIMA_ESCAPE"]
LINE = re.compile(r"^(?:nic0: nat: )?escape (\w+) ([\w-]+)(?: (\w+))?$", re.M)
# How a call is refused by somebody else than the filter.
NEWER = {"clone3", "lookup-newest"}
ERRORS = {"EACCES", "EPERM", "ENOENT", "ESRCH", "EROFS", "ENOTDIR", "EINVAL", "EISCONN", "ENETUNREACH", "ENOTSOCK",
          "ECONNREFUSED", "EXDEV", "EEXIST", "ENOSYS",
          "EAFNOSUPPORT", "EBADF"}
# NAT reads files, of which only one is there, and connects; the reader of a database opens files for
# reading, of which only the database is let to it. Rings are restricted.
READS = {"openat-passwd", "openat-shadow", "open-program", "open-parent", "prlimit"}
RINGS = {"ring-open", "ring-connect", "ring-unlink"}
BY_OTHERS = {
    "vmm": RINGS,
    "nat": READS | RINGS | {"connect-again", "connect-unix", "connect-abstract"},
    "osinfo": READS | RINGS,
    "network": READS | RINGS | {"connect-again", "connect-unix", "connect-abstract"},
    "switch": RINGS | {"prlimit"},
    "reader": RINGS,
    "package": RINGS,
}
ALLOWED = {"nat": {"connect-tcp"}, "network": {"connect-tcp"}}
# The root folder is the host's for who reads a database, and sockets there are not Landlock's business.
ALLOWED_BENEATH = {"osinfo": {"connect-unix"}}


class Escape(AnimaTest):
    def setUp(self):
        super().setUp()
        self.user = {}
        self.prefix = []
        self.anima_program, self.payload, self.programs = ANIMA, PAYLOAD, ESCAPE
        self.env["ANIMA_LIBEXEC"] = ESCAPE

    def become(self, name):
        """From here on all is done as that user, with copies that he may read."""
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        user = pwd.getpwnam(name)
        copy = os.path.join(self.folder, "programs")
        os.makedirs(copy)
        os.chmod(self.folder, 0o755)
        build = os.path.dirname(os.path.dirname(ANIMA))
        for path in (ANIMA, PAYLOAD, os.path.join(build, "lib/libanima.so.0"),
                     *(os.path.join(ESCAPE, name) for name in os.listdir(ESCAPE) if name.startswith("anima-")
                       and not os.path.isdir(os.path.join(ESCAPE, name)))):
            shutil.copy(path, copy)
        self.runtime = os.path.join(self.folder, "user")
        os.mkdir(self.runtime, 0o700)
        os.chown(self.runtime, user.pw_uid, user.pw_gid)
        self.anima_program, self.payload = os.path.join(copy, "anima"), os.path.join(copy, os.path.basename(PAYLOAD))
        self.programs = copy
        self.env.update(ANIMA_RUNTIME_DIR=self.runtime, ANIMA_LIBEXEC=copy, LD_LIBRARY_PATH=copy, HOME=self.runtime)
        self.user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def prey(self):
        """What the hostile code reaches for: a file, a process, sockets of the host's, all of the
        same user."""
        owner = (self.user.get("user", os.geteuid()), self.user.get("group", os.getegid()))
        folder = os.path.join(self.folder, "prey")
        os.makedirs(folder, 0o755, exist_ok=True)
        disk, path = os.path.join(folder, "disk"), os.path.join(folder, "socket")
        with open(disk, "wb") as stream:
            stream.truncate(1 << 20)
        os.chown(disk, *owner)
        tcp, local, abstract = socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        tcp.bind(("127.0.0.1", 0))
        local.bind(path)
        os.chmod(path, 0o777)
        name = "anima-escape-" + os.path.basename(self.folder)
        abstract.bind("\0" + name)
        for listener in tcp, local, abstract:
            listener.listen(16)
            self.addCleanup(listener.close)
        victim = subprocess.Popen(["sleep", "1000"], **self.user)  # pylint: disable=consider-using-with
        self.addCleanup(victim.wait)
        self.addCleanup(victim.send_signal, signal.SIGKILL)
        self.env.update(ANIMA_ESCAPE_DISK=disk, ANIMA_ESCAPE_SOCKET=path, ANIMA_ESCAPE_ABSTRACT=name,
                        ANIMA_ESCAPE_PID=str(victim.pid), ANIMA_ESCAPE_PORT=str(tcp.getsockname()[1]))

    def check(self, role, words, where, filtered, allowed=frozenset()):
        """Each attempt of the list was made there and refused; by the filter, if there is one and
        the role does not make such calls."""
        outcomes = {name: outcome for place, name, outcome in LINE.findall(words) if place == where}
        self.assertIn("end", outcomes, f"{role}, {where}: {words[-2000:]}")
        self.assertGreater(len(outcomes), 120 if filtered else 50)
        for name, outcome in outcomes.items():
            if name == "end" or name in ALLOWED.get(role, ()) or name in allowed or \
                    (not filtered and name in ALLOWED_BENEATH.get(role, ())):
                continue
            if name in NEWER and filtered:
                good = outcome == "ENOSYS"
            elif name in BY_OTHERS[role] or not filtered:
                good = outcome == "filter" or outcome in ERRORS
            else:
                good = outcome == "filter"
            self.assertTrue(good, f"{role}, {where}, {name}: {outcome}")

    def run_machine(self, engine, filtered=True, allowed=frozenset(), **options):
        """Boot; the guest says hello, whatever was tried meanwhile. `allowed`: to the helper."""
        self.prey()
        if not filtered:
            self.env["ANIMA_ESCAPE_NO_FILTER"] = "1"
        words = [*self.prefix, self.anima_program, "run", "--name", "test", "--engine", engine, "--memory", "32M",
                 "--nic", "user", "--kernel", self.payload]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.env, **(options or ({} if self.prefix else self.user))) as process:
            out, said = process.communicate(b"q", timeout=PATIENCE)
        said = said.decode()
        self.assertEqual(process.returncode, 0, said[-2000:])
        self.assertIn(b"hello", out)
        helper = "\n".join(line for line in said.splitlines() if line.startswith("nic0: nat: "))
        machine = "\n".join(line for line in said.splitlines() if not line.startswith("nic0: nat: "))
        self.check("vmm", machine, "main", filtered)
        self.check("vmm", machine, "vcpu", filtered)
        self.check("nat", helper, "main", filtered, allowed)

    def need_kvm(self):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            self.skipTest("no /dev/kvm here")

    def lend_kvm(self):
        """A /dev/kvm that the user may open, in a mount namespace of the test's own."""
        self.need_kvm()
        device = os.path.join(self.folder, "kvm")
        os.mknod(device, 0o20666, os.stat("/dev/kvm").st_rdev)
        os.chmod(device, 0o666)
        number = str(self.user["user"])
        self.prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /dev/kvm; shift; exec "$@"', "sh", device,
                       "setpriv", "--reuid", number, "--regid", str(self.user["group"]), "--clear-groups"]

    def test_root_soft(self):
        self.run_machine("soft")

    def test_root_kvm(self):
        self.need_kvm()
        self.run_machine("kvm")

    def test_root_without_filter(self):
        self.run_machine("soft", filtered=False)

    def test_root_where_little_is_allowed(self):
        """Neither namespaces nor Landlock: the filter alone does it. It cannot see which file NAT reads
        the host's resolvers from."""
        self.run_machine("soft", allowed=READS, preexec_fn=confine)

    def test_user_soft(self):
        self.become("nobody")
        self.run_machine("soft")

    def test_user_kvm(self):
        self.become("nobody")
        self.lend_kvm()
        self.run_machine("kvm")

    def test_user_without_filter(self):
        self.become("nobody")
        self.run_machine("soft", filtered=False)

    def run_reader(self, role, program, *words, filtered):
        path = os.path.join(self.programs, program)
        if not os.path.exists(path):
            self.skipTest(f"{program} is not built")
        if not filtered:
            self.env["ANIMA_ESCAPE_NO_FILTER"] = "1"
        result = subprocess.run([path, *words], stdin=subprocess.DEVNULL, capture_output=True, env=self.env,
                                text=True, timeout=PATIENCE, check=False, **self.user)
        self.check(role, result.stderr, "main", filtered)

    def run_package(self):
        """The process that reads and writes packages serves a connection. Its own process namespace is made
        by who starts it, so that here only the filter is put to the test."""
        path = os.path.join(self.programs, "anima-import")
        if not os.path.exists(path):
            self.skipTest("anima-import is not built")
        self.env.pop("ANIMA_ESCAPE_NO_FILTER", None)
        ours, theirs = socket.socketpair()
        ours.shutdown(socket.SHUT_WR)
        code = f"import os; os.dup2({theirs.fileno()}, 3); os.execv({path!r}, [{path!r}, 'package'])"
        result = subprocess.run(["/usr/bin/python3", "-c", code], stdin=subprocess.DEVNULL, capture_output=True,
                                env=self.env, text=True, timeout=PATIENCE, check=False, pass_fds=[theirs.fileno()],
                                **self.user)
        self.check("package", result.stderr, "main", True)
        ours.close()
        theirs.close()

    def run_readers(self):
        self.prey()
        for filtered in True, False:
            self.run_reader("reader", "anima-vmm", "state-dump", filtered=filtered)
            self.run_reader("reader", "anima-import", filtered=filtered)
            self.run_reader("osinfo", "anima-osinfo", "debian12", filtered=filtered)
        self.run_package()

    def run_network(self, role, kind, **options):
        """The helper of a network that machines share, to which this program speaks as its monitor does."""
        path = os.path.join(self.programs, "anima-network")
        if not os.path.exists(path):
            self.skipTest("anima-network is not built")
        ours, its = socket.socketpair()
        start = {"jsonrpc": "2.0", "id": 1, "method": "start",
                 "params": {"definition": {"kind": kind, **options}, "leases": []}}
        with subprocess.Popen([path, "network"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=self.env,
                              preexec_fn=lambda: os.dup2(its.fileno(), 3), pass_fds=(3,), **self.user) as process:
            its.close()
            ours.sendall(json.dumps(start).encode() + b"\n")
            ours.settimeout(PATIENCE)
            answer = ours.recv(65536)
            ours.close()
            _, said = process.communicate(timeout=PATIENCE)
        self.assertIn(b'"result"', answer, said)
        self.check(role, said.decode(), "main", True)

    def test_networks(self):
        self.prey()
        self.run_network("network", "nat", subnet="10.93.7.0/24")
        self.run_network("switch", "internal")

    def test_networks_of_a_user(self):
        self.become("nobody")
        self.prey()
        self.run_network("network", "nat", subnet="10.93.7.0/24")
        self.run_network("switch", "internal")

    def test_root_readers(self):
        self.run_readers()

    def test_user_readers(self):
        self.become("nobody")
        self.run_readers()


if __name__ == "__main__":
    unittest.main()
