#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A machine where little is allowed: under a filter that refuses io_uring, userfaultfd, namespaces
and Landlock, as many containers and CI runners have it; and as another user."""
import json
import os
import shutil
import subprocess
import sys
import unittest

from anima_test import ANIMA, PAYLOAD, PATIENCE, AnimaTest, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from confine import confine


def read(path):
    with open(path, encoding="ascii") as stream:
        return stream.read()


class Confined(AnimaTest):
    def run_payload(self, anima, payload, engine="soft", look=None, **options):
        """Boot, have it answer, power off; its query in between, which look() gets."""
        with subprocess.Popen([anima, "run", "--name", "test", "--engine", engine, "--memory",
                               "64M", "--kernel", payload], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env,
                              **options) as process:
            self.assertEqual(process.stdout.read(5), b"hello", process.stderr)
            status = subprocess.run([anima, "query", "test", "--json"], env=self.env,
                                    capture_output=True, timeout=PATIENCE, check=True, **options)
            status = json.loads(status.stdout)
            if look:
                look(status)
            _, words = process.communicate(b"q", timeout=PATIENCE)
            self.assertEqual(process.returncode, 0, words)
        return status

    def look_at_kvm(self, status):
        """What the vmm holds when it runs on KVM: nothing of root's, no file system."""
        self.assertEqual(status["engine"], "kvm")
        folder = f"/proc/{status['pid']}"
        with open(f"{folder}/status", encoding="ascii") as stream:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
        self.assertEqual(lines["CapEff"], "0" * 16)
        self.assertEqual(lines["Uid"].split(), [str(status["sandbox"]["uid"])] * 4)
        if os.geteuid() == 0:
            self.assertGreater(status["sandbox"]["uid"], 0)
        if "mount" in status["sandbox"]["namespaces"]:
            self.assertEqual(os.listdir(f"{folder}/root"), [])

    def test_on_kvm(self):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            self.skipTest("no /dev/kvm here")
        status = self.run_payload(ANIMA, PAYLOAD, engine="kvm", look=self.look_at_kvm)
        self.assertTrue(status["sandbox"]["seccomp"])
        self.run_payload(ANIMA, PAYLOAD, engine="kvm", preexec_fn=confine)

    def test_a_new_list_of_resolvers(self):
        """NAT sees no file of the host's but a copy of this one, which follows."""
        if os.geteuid() != 0:
            self.skipTest("only root can put a folder in the place of /etc")
        etc = os.path.join(self.folder, "etc")
        os.mkdir(etc)
        for name in "passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache":
            shutil.copy(os.path.join("/etc", name), etc)

        def replace(text):
            with open(os.path.join(etc, "new"), "w", encoding="ascii") as stream:
                stream.write(text)
            os.rename(os.path.join(etc, "new"), os.path.join(etc, "resolv.conf"))

        replace("nameserver 192.0.2.1\n")
        command = [ANIMA, "run", "--name", "test", "--engine", "soft", "--memory", "64M", "--kernel", PAYLOAD,
                   "--nic", "user"]
        with subprocess.Popen(["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', etc, *command],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env) as process:
            self.assertEqual(process.stdout.read(5), b"hello")
            status = self.query()
            monitor = status["monitor_pid"]
            with open(f"/proc/{monitor}/task/{monitor}/children", encoding="ascii") as stream:
                nat = [pid for pid in stream.read().split() if int(pid) != status["pid"]][0]
            if "mount" in status["sandbox"]["namespaces"]:
                copy = f"/proc/{nat}/root/etc"
                self.assertEqual(os.listdir(copy), ["resolv.conf"])
                for text in "nameserver 192.0.2.2\nnameserver 192.0.2.3\n", "nameserver 192.0.2.4\n":
                    replace(text)
                    wait_for(lambda expected=text: read(f"{copy}/resolv.conf") == expected, "the new list", 10)
            process.communicate(b"q", timeout=PATIENCE)
        self.assertEqual(process.returncode, 0)

    def test_without_namespaces_and_landlock(self):
        status = self.run_payload(ANIMA, PAYLOAD, preexec_fn=confine)
        sandbox = status["sandbox"]
        self.assertEqual((sandbox["namespaces"], sandbox["landlock"], sandbox["seccomp"]),
                         ([], 0, True))
        self.assertEqual(status["io"], "epoll")

    def test_chosen_loops(self):
        """ANIMA_LOOP decides, and is not obeyed in silence where it cannot be."""
        self.env["ANIMA_LOOP"] = "epoll"
        self.assertEqual(self.run_payload(ANIMA, PAYLOAD)["io"], "epoll")
        for word, options, message in (("select", {}, "expected uring or epoll, not 'select'"),
                                       ("uring", {"preexec_fn": confine}, "refuses io_uring")):
            self.env["ANIMA_LOOP"] = word
            result = self.anima("run", "--engine", "soft", "--kernel", PAYLOAD, **options)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn(message, result.stderr)

    def test_as_another_user(self):
        program, payload, nobody = self.prepare_another_user()
        if os.access("/dev/kvm", os.F_OK) and os.stat("/dev/kvm").st_mode & 0o006 != 0o006:
            result = self.anima("run", "--engine", "kvm", "--kernel", payload,
                                program=program, **nobody)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("/dev/kvm: Permission denied; join the group", result.stderr)
        status = self.run_payload(program, payload, engine="auto", **nobody)
        self.assertTrue(status["sandbox"]["seccomp"])
        # By the name of a definition that this user keeps, whose paths are relative to it.
        home = os.path.join(self.folder, "data")
        machine = os.path.join(home, "anima", "kept")
        os.makedirs(machine)
        shutil.copy(PAYLOAD, os.path.join(machine, "kernel"))
        with open(os.path.join(machine, "vm.yaml"), "w", encoding="ascii") as stream:
            stream.write("kernel: kernel\nmemory: 32M\nappend: kept\nengine: soft\n")
        self.env["XDG_DATA_HOME"] = home
        del self.env["ANIMA_DATA_DIR"]
        result = subprocess.run([program, "run", "kept", "--memory",
                                 "48M"], input=b"q", env=self.env, capture_output=True,
                                timeout=PATIENCE, check=False, **nobody)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"hello kept", result.stdout)


if __name__ == "__main__":
    unittest.main()
