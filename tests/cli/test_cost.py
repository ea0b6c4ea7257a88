#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What commands cost where many machines are defined, counted in work instead of in time: system calls,
processes, and turns that machines take while nothing happens."""
import json
import os
import re
import shutil
import subprocess
import time
import unittest

from anima_test import ANIMA, PATIENCE, AnimaTest, wait_for

IDLE = os.environ["ANIMA_PAYLOAD_IDLE"]
DEFINED, RUNNING = 40, 6
BIRTHS = ("fork", "vfork", "clone", "clone3")
SLEEPS = ("nanosleep", "clock_nanosleep")


def turns(pid):
    """How often its threads were given a processor."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as lines:
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


class Cost(AnimaTest):
    def setUp(self):
        super().setUp()
        if not shutil.which("strace"):
            self.skipTest("no strace here")

    def tearDown(self):
        self.anima("stop", "--all", "--timeout", "0")
        super().tearDown()

    def create(self, *names):
        for name in names:
            self.good("create", name, "--kernel", IDLE, "--append", "idle", "--memory", "32M", "--engine", "soft")

    def up(self, *names):
        self.good("start", *names)
        for name in names:
            self.await_guest(name)

    def await_guest(self, name):
        wait_for(lambda: "ready" in self.said(name), "the guest")

    def said(self, name):
        try:
            with open(os.path.join(self.data, name, "console.log"), encoding="ascii") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""

    def calls(self, *words, until=None):
        """Names of the system calls of all processes that the command starts; up to `until` it is
        watched, and by itself to its end otherwise."""
        trace = os.path.join(self.folder, "trace")
        with subprocess.Popen(["strace", "-f", "-qq", "-o", trace, ANIMA, *words], env=self.env,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE) as process:
            if until:
                until()
                self.good("kill", words[-1])
            _, complaint = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, complaint), (0, b""), words)
        with open(trace, encoding="utf-8", errors="replace") as lines:
            return re.findall(r"(?m)^\d+ +([a-z0-9_]+)\(", lines.read())

    def test_list(self):
        names = [f"machine-{number}" for number in range(DEFINED)]
        none = len(self.calls("list"))
        self.create(*names)
        self.up(*names[:RUNNING])
        calls = self.calls("list")
        # Nobody helps it, it waits for answers alone, and each machine is looked at once.
        self.assertFalse([name for name in calls if name in BIRTHS + SLEEPS])
        self.assertEqual(calls.count("execve"), 1)
        self.assertEqual(calls.count("connect"), RUNNING)
        self.assertLess(len(calls), none + 8 * DEFINED + 16 * RUNNING + 20)
        self.assertEqual(len(json.loads(self.good("list", "--json"))), DEFINED)

    def test_start(self):
        """What else is defined and runs makes no difference."""
        self.create("alone")
        alone = self.calls("start", "alone", until=lambda: self.await_guest("alone"))
        names = [f"machine-{number}" for number in range(DEFINED)]
        self.create(*names)
        self.up(*names[:RUNNING])
        among = self.calls("start", names[-1], until=lambda: self.await_guest(names[-1]))
        for calls in alone, among:
            # The vmm measures its counter's frequency once, against the clock; nobody else sleeps.
            self.assertLessEqual(len([name for name in calls if name in SLEEPS]), 4)
            # The command, its monitor, and the vmm, which may be begun by what makes its namespaces.
            self.assertLessEqual(calls.count("execve"), 4)
            self.assertLess(len(calls), 2500)
        self.assertLess(abs(len(among) - len(alone)), len(alone) // 10)

    def test_idle(self):
        names = [f"machine-{number}" for number in range(RUNNING)]
        self.create(*names)
        self.up(*names)
        pids = [pid for name in names for pid in (self.query(name)["pid"], self.query(name)["monitor_pid"])]
        # They settle: the start's last events, and answers to what was asked just now.
        wait_for(lambda: self.turns_in(pids, 0.3) == 0, "rest")
        self.assertEqual(self.turns_in(pids, 2), 0)

    @staticmethod
    def turns_in(pids, seconds):
        before = sum(map(turns, pids))
        time.sleep(seconds)
        return sum(map(turns, pids)) - before


if __name__ == "__main__":
    unittest.main()
