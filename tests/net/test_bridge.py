#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""anima-bridge, as root and as an ordinary user, on a bridge in a network namespace of this test's own.

Runs itself again in namespaces of networks and mounts, so that nothing of the host is changed.
"""
import array
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BRIDGE, ANIMA, PAYLOAD = (os.environ[name] for name in ("ANIMA_BRIDGE", "ANIMA", "ANIMA_PAYLOAD"))
CONFIG = "/etc/anima/bridge.conf"
PATIENCE, LINK_FD, USER = 20, 3, 65534
FRAME = b"\xff" * 6 + b"\x52\x54\0\0\0\x01" + b"\x88\xb5" + b"hello" * 20


def run(*words):
    subprocess.run(words, check=True)


def make_world():
    """A bridge br0 with one end of a cable in it, a TUN device for all, an /etc that may be changed."""
    run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    for folder in "upper", "work":
        os.mkdir(f"/mnt/{folder}")
    run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work", "/etc")
    os.makedirs("/etc/anima", exist_ok=True)
    run("mknod", "/mnt/tun", "c", "10", "200")
    os.chmod("/mnt/tun", 0o666)
    run("mount", "--bind", "/mnt/tun", "/dev/net/tun")
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "add", "near", "mtu", "1400", "type", "veth", "peer", "name", "far")
    run("ip", "link", "set", "near", "master", "br0")
    for name in "lo", "br0", "near", "far":
        run("ip", "link", "set", name, "up")


def on_bridge():
    shown = subprocess.run(["ip", "-j", "link", "show", "master", "br0"], capture_output=True, check=True)
    return {link["ifname"]: link for link in json.loads(shown.stdout or b"[]") if link["ifname"] != "near"}


class Bridge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        os.chmod(cls.folder, 0o755)
        for name in "plain", "capable":
            shutil.copy(BRIDGE, os.path.join(cls.folder, name))
        run("setcap", "cap_net_admin=ep", os.path.join(cls.folder, "capable"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def ask(self, *words, program="capable", uid=USER):
        """The descriptor that comes, or what is said."""
        ours, theirs = socket.socketpair()

        def become():
            os.dup2(theirs.fileno(), LINK_FD)
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)

        # Another environment than an empty one is none of its business.
        process = subprocess.Popen([os.path.join(self.folder, program), *words], pass_fds=(LINK_FD,),
                                   preexec_fn=become, stderr=subprocess.DEVNULL, env={"PATH": "/nowhere"})
        theirs.close()
        with ours:
            ours.settimeout(PATIENCE)
            fds = array.array("i")
            said, beside, _, _ = ours.recvmsg(1000, socket.CMSG_LEN(4))
            for _, _, data in beside:
                fds.frombytes(data[:4])
        process.wait(PATIENCE)
        if not fds:
            self.assertNotEqual(process.returncode, 0)
            return said.decode()
        self.assertEqual(process.returncode, 0)
        self.addCleanup(lambda: os.close(fds[0]) if fds[0] >= 0 else None)
        self.fds = fds
        return fds[0]

    def allow(self, text, mode=0o644, owner=0):
        with open(CONFIG, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(CONFIG, mode)
        os.chown(CONFIG, owner, 0)

    def check_traffic(self, tap):
        """Frames go both ways between the interface and the other end of the bridge's cable."""
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88b5)) as far:
            far.bind(("far", 0))
            far.settimeout(PATIENCE)
            os.write(tap, bytes(10) + FRAME)
            self.assertEqual(far.recv(2000), FRAME)
            far.send(FRAME[:6] + b"\x52\x54\0\0\0\x02" + FRAME[12:])
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and select.select([tap], [], [], PATIENCE)[0]:
                if os.read(tap, 2000)[10:].endswith(FRAME[12:]):
                    return
        self.fail("no frame came through the bridge")

    def test_root_needs_no_file(self):
        if os.path.exists(CONFIG):
            os.unlink(CONFIG)
        tap = self.ask("br0", uid=0, program="plain")
        self.assertIsInstance(tap, int, tap)
        self.check_traffic(tap)

    def test_a_user_gets_an_interface_on_an_allowed_bridge(self):
        self.allow("# ours\n\nallow br1 root\nallow br0\n")
        tap = self.ask("br0")
        self.assertIsInstance(tap, int, tap)
        (name, link), = on_bridge().items()
        self.assertRegex(name, "^anima[0-9]+$")
        self.assertEqual(link["mtu"], 1400)
        self.assertTrue(link["address"].startswith("fe:"))
        self.check_traffic(tap)
        # It goes with its descriptor.
        os.close(tap)
        self.fds[0] = -1
        self.assertEqual(on_bridge(), {})

    def test_users_are_told_apart(self):
        for line in "allow br0 root nobody", f"allow br0 {USER} # so", "allow br0 root\nallow br0 nobody":
            self.allow(line + "\n")
            self.assertIsInstance(self.ask("br0"), int, line)
        for line in "allow br0 root", "allow br0 1", "allow br0 nobodys", "allow br00", "allow br", "":
            self.allow(line + "\n")
            self.assertIn("this user may not use the bridge; as root write 'allow br0' into", self.ask("br0"))

    def test_a_file_that_others_could_have_written_counts_for_nothing(self):
        for mode, owner in (0o666, 0), (0o664, 0), (0o644, USER):
            self.allow("allow br0\n", mode, owner)
            self.assertIn("this is no file that root alone can write", self.ask("br0"))
        self.allow("allow br0\n")
        os.rename(CONFIG, CONFIG + ".real")
        os.symlink(CONFIG + ".real", CONFIG)
        self.assertIn("bridge.conf: ", self.ask("br0"))
        os.unlink(CONFIG)
        self.assertIn("No such file or directory; as root write 'allow BRIDGE' there", self.ask("br0"))
        self.allow("")
        with open(CONFIG, "wb") as file:
            file.write(b"allow br0\n\0")
        self.assertIn("this is no text", self.ask("br0"))
        self.allow("allow br0\n" * 7000)
        self.assertIn("this is no text", self.ask("br0"))

    def test_a_line_that_cannot_be_read_allows_nothing(self):
        for line in "deny br0", "allow", "allowed br0":
            self.allow(f"allow br0\n{line}\n")
            self.assertIn("bridge.conf:2: expected 'allow BRIDGE [USER ...]'", self.ask("br0"))

    def test_what_is_no_bridge_is_refused(self):
        self.allow("allow far\nallow gone0\nallow lo\n")
        self.assertIn("this interface is no bridge", self.ask("far"))
        self.assertIn("there is no such interface", self.ask("gone0"))
        for name in "", "a/b", "x" * 16, "..", "a b", "a%d":
            self.assertIn("no interface can have such a name", self.ask(name))
        self.assertEqual(on_bridge(), {})

    def test_without_the_capability_it_says_what_to_do(self):
        self.allow("allow br0\n")
        self.assertIn("as root: setcap cap_net_admin=ep", self.ask("br0", program="plain"))

    # ---- machines ----

    def anima(self, *words, **options):
        return subprocess.run([ANIMA, *words], env=self.environment, capture_output=True, text=True,
                              timeout=PATIENCE, check=False, **options)

    def check_machine(self, network):
        """A machine on the bridge has an interface there, for as long as it runs."""
        self.assertEqual(on_bridge(), {})
        process = subprocess.Popen([ANIMA, "run", "--name", "bridged", "--engine", "soft", "--kernel", PAYLOAD,
                                    "--paused", "--nic", network], env=self.environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while self.anima("query", "bridged").returncode and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(len(on_bridge()), 1)
        self.assertEqual(self.anima("kill", "bridged").returncode, 0)
        process.wait(PATIENCE)
        self.assertEqual(on_bridge(), {})

    def test_machines(self):
        self.environment = os.environ | {f"ANIMA_{name}_DIR": os.path.join(self.folder, name.lower())
                                         for name in ("DATA", "RUNTIME")}
        self.check_machine("bridge=br0")
        self.assertEqual(self.anima("network", "create", "lan", "--kind", "bridge", "--interface", "br0").returncode, 0)
        self.check_machine("switch=lan")
        for network, message in (("bridge=far", "nic: bridge=far: this interface is no bridge"),
                                 ("switch=gone", "nic: switch=gone: no network of this name is defined")):
            result = self.anima("run", "--engine", "soft", "--kernel", PAYLOAD, "--serial", "none", "--nic", network)
            self.assertEqual(result.returncode, 1)
            self.assertIn(message, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)


if __name__ == "__main__":
    if os.environ.get("INSIDE") == "yes":
        make_world()
        unittest.main()
    elif os.geteuid() or not os.path.exists("/dev/net/tun") or not all(map(shutil.which, ("ip", "setcap", "unshare"))):
        print("SKIP: bridges in a network namespace need root, ip, setcap and /dev/net/tun")
        sys.exit(77)
    elif subprocess.run(["unshare", "-n", "-m", "true"], check=False).returncode:
        print("SKIP: no network and mount namespaces here")
        sys.exit(77)
    else:
        sys.exit(subprocess.run(["unshare", "-n", "-m", sys.executable, __file__, *sys.argv[1:]],
                                env=os.environ | {"INSIDE": "yes"}, check=False).returncode)
