#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""attach and detach: disks and network cards that come and go, under a guest without a driver for
that; it lets go of what it is asked for by a reset alone."""
import json
import os
import signal
import subprocess
import time
import unittest

from anima_test import ANIMA, PAYLOAD, AnimaTest, wait_for


class Hotplug(AnimaTest):
    def setUp(self):
        super().setUp()
        self.disks = [self.make_disk(f"{letter}.img") for letter in "abc"]

    def tearDown(self):
        self.kill_all()
        super().tearDown()

    def keep(self, name="web", *options):
        """A kept machine that runs."""
        self.good("create", name, "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", *options)
        self.good("start", name)

    def text(self, name="web"):
        return self.good("show", name)

    def devices(self, name="web", *words):
        """Ids and addresses of what runs, or of what is kept."""
        definition = json.loads(self.good("show", name, "--json", *(words or ["--running"])))
        return {device["id"]: device["address"] for kind in ("disk", "nic")
                for device in definition.get(kind, [])}

    def detaching(self, *words):
        """A detach that waits for the guest."""
        others = len(self.jobs(words[0]))
        process = subprocess.Popen([ANIMA, "detach", *words], env=self.env, stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(self.jobs(words[0])) > others, "the work")
        return process

    def jobs(self, name):
        with self.connect(name) as connection:
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "job.list"}\n')
            return json.loads(connection.makefile().readline())["result"]["jobs"]

    def assert_ended(self, process, status, message=""):
        _, words = process.communicate(timeout=30)
        self.assertEqual(process.returncode, status, words)
        self.assertIn(message, words)

    def test_a_disk_comes_and_goes(self):
        self.keep("web", "--disk", self.disks[0])
        before = self.text()
        self.assertEqual(self.good("attach", "web", "disk", self.disks[1] + ",serial=TWO"),
                         "disk1 at 01:00.0\n")
        both = {"disk0": "00:03.0", "disk1": "01:00.0"}
        self.assertEqual(self.devices(), both)
        self.assertEqual(self.devices("web", "--all"), both)
        self.assertIn("serial: TWO\n", self.text())
        self.assert_refused_with(1, "in use by process", "run", "--kernel", PAYLOAD, "--disk", self.disks[1])
        waiting = self.detaching("web", "disk1")
        self.assertEqual(self.devices(), both)
        self.good("reset", "web")
        self.assert_ended(waiting, 0)
        self.assertEqual(self.devices(), {"disk0": "00:03.0"})
        self.assertEqual(self.text(), before)
        other = self.greeted("--disk", self.disks[1], name="other")
        other.send("q")
        self.assert_ends(other, 0)

    def test_a_card_comes_and_goes_with_its_helper(self):
        self.keep()
        result = json.loads(self.good("attach", "web", "nic", "user,forward=tcp:0:22", "--json"))
        self.assertEqual(result, {"id": "nic0", "address": "01:00.0"})
        self.assertIn("mac: 52:54:00:", self.text())
        forwards = self.query("web")["forwards"]
        self.assertEqual([forward["nic"] for forward in forwards], ["nic0"])
        waiting = self.detaching("web", "nic0")
        self.good("reset", "web")
        self.assert_ended(waiting, 0)
        self.assertEqual(self.query("web")["forwards"], [])
        self.assertNotIn("nic", self.text())
        # The port is free again, for it too.
        port = forwards[0]["host_port"]
        self.good("attach", "web", "nic", f"user,forward=tcp:{port}:22", "--temporary")
        self.assert_refused_with(1, "forward", "attach", "web", "nic", f"user,forward=tcp:{port}:23")
        self.assertEqual(self.devices(), {"nic0": "01:00.0"})

    def test_a_card_that_goes_while_it_is_changed(self):
        """Its helper is silent. Who waits hears of it, and others can be changed."""
        self.keep("web", "--nic", "none")
        self.good("attach", "web", "nic", "user,id=lan")
        pid = self.query("web")["monitor_pid"]
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            helper, = [int(child) for child in file.read().split() if self.is_nat(child)]
        leaving = self.detaching("web", "lan")
        os.kill(helper, signal.SIGSTOP)
        with self.connect("web") as connection:
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "device.change", "params": '
                               b'{"id": "lan", "add": {"forward": ["tcp:0:22"]}}}\n')
            self.assert_refused_with(1, "another change is under way", "change", "web", "nic0", "rate=1M")
            self.good("reset", "web")
            self.assert_ended(leaving, 0)
            answer = json.loads(connection.makefile().readline())
        self.assertEqual(answer["error"]["message"], "lan: the card has gone")
        self.good("change", "web", "nic0", "rate=1M")
        self.assertEqual(self.devices(), {"nic0": "00:03.0"})

    @staticmethod
    def is_nat(pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"nat" in file.read().split(b"\0")[0]

    def test_what_is_temporary_is_nowhere_written_down(self):
        self.keep()
        before = self.text()
        self.good("attach", "web", "disk", self.disks[0] + ",id=data,address=05:00.0", "--temporary")
        self.assertEqual(self.devices(), {"data": "05:00.0"})
        self.assertEqual(self.text(), before)
        self.good("attach", "web", "disk", self.disks[1])
        waiting = self.detaching("web", "disk0", "--temporary")
        self.good("reset", "web")
        self.assert_ended(waiting, 0)
        self.assertEqual(self.devices(), {"data": "05:00.0"})
        self.assertEqual(self.devices("web", "--all"), {"disk0": "01:00.0"})

    def test_a_definition_keeps_its_words(self):
        self.keep("web", "--nic", "none")
        path = os.path.join(self.data, "web", "vm.yaml")
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("# what its owner has to say\n")
        self.good("edit", "web", f"disk+={self.disks[2]},id=disk0,address=01:00.0")
        before = self.text()
        # Neither the id nor the place of what is only kept.
        self.assertEqual(self.good("attach", "web", "disk", self.disks[0]), "disk1 at 02:00.0\n")
        self.assertIn("# what its owner has to say\n", self.text())
        waiting = self.detaching("web", "disk1")
        self.good("reset", "web")
        self.assert_ended(waiting, 0)
        self.assertEqual(self.text(), before)

    def test_what_is_refused_leaves_nothing(self):
        self.keep("web", "--disk", self.disks[0], "--nic", "none")
        before, devices = self.text(), self.devices()
        descriptors = self.descriptors("web")
        for status, message, *words in (
                (2, "kind: expected disk or nic, not 'cd'", "cd", "x"),
                (2, "disk: file is missing", "disk", "readonly=yes"),
                (2, "disk: id: 'nic0' is given twice", "disk", self.disks[1] + ",id=nic0"),
                (2, "address: expected 00:03.0 to", "disk", self.disks[1] + ",address=09:00.0"),
                (2, "address: '00:07.0' is on bus 0, where nothing comes while the machine runs",
                 "disk", self.disks[1] + ",address=00:07.0"),
                (1, "No such file", "disk", "/nonexistent"),
                (1, "the same file is given twice", "disk", self.disks[0]),
                (1, "tap=nothere: there is no such interface", "nic", "tap=nothere"),
                (2, "mac: expected the address", "nic", "none,mac=1")):
            for more in (), ("--temporary",):
                self.assert_refused_with(status, message, "attach", "web", *words, *more)
        self.assert_refused_with(1, "no machine called 'nobody' is running", "attach", "nobody", "nic", "none")
        self.assert_refused_with(2, "usage: anima attach", "attach", "web", "nic")
        self.assert_refused_with(1, "id: no disk or network card is called 'disk7'; there are nic0, disk0",
                     "detach", "web", "disk7")
        self.assert_refused_with(1, "disk0: it is on bus 0 (00:04.0) for the machine's life", "detach", "web", "disk0")
        self.assert_refused_with(2, "--timeout: expected a number of seconds", "detach", "web", "disk0", "--timeout", "x")
        self.assertEqual((self.text(), self.devices()), (before, devices))
        wait_for(lambda: self.descriptors("web") == descriptors, "descriptors that were closed")

    def descriptors(self, name):
        status = self.query(name)
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (status["monitor_pid"], status["pid"])]

    def test_there_are_eight_places(self):
        self.keep()
        for place in range(1, 8):
            self.assertEqual(self.good("attach", "web", "nic", "none", "--temporary"),
                             f"nic{place - 1} at 0{place}:00.0\n")
        self.good("attach", "web", "disk", self.disks[0])
        before = self.text()
        self.assert_refused_with(1, "disk: all 8 root ports are taken; detach something first", "attach", "web", "disk",
                     self.disks[1])
        self.assertEqual(self.text(), before)

    def test_a_guest_that_does_not_answer_keeps_it(self):
        self.keep()
        self.good("attach", "web", "disk", self.disks[0])
        before, devices = self.text(), self.devices()
        self.assert_refused_with(1, "disk0: the guest has not let go of it in time, and keeps it", "detach", "web",
                     "disk0", "--timeout", "1")
        waiting = self.detaching("web", "disk0")
        self.assert_refused_with(1, "on its way in or out already", "detach", "web", "disk0")
        waiting.send_signal(signal.SIGINT)
        self.assert_ended(waiting, 1, "it was cancelled")
        self.assertEqual((self.text(), self.devices()), (before, devices))
        self.assertEqual(self.jobs("web"), [])
        self.good("reset", "web")
        self.assertEqual(self.devices(), devices)

    def test_it_is_there_in_the_next_life(self):
        self.keep("web", "--restart", "always")
        self.good("attach", "web", "nic", "user", "--temporary")
        self.good("attach", "web", "disk", self.disks[0])
        waiting, pid = self.detaching("web", "disk0"), self.query("web")["pid"]
        os.kill(pid, signal.SIGKILL)
        self.assert_ended(waiting, 1)
        wait_for(lambda: self.running("web") not in (None, pid), "the next life", 20)
        self.assertEqual(self.devices(), {"disk0": "02:00.0", "nic0": "01:00.0"})

    def running(self, name):
        machines = json.loads(self.good("list", "--json"))
        return next((one.get("pid") for one in machines if one["name"] == name), None)

    def test_another_vmm_knows_what_was_asked_for(self):
        self.keep()
        self.good("attach", "web", "disk", self.disks[0])
        self.good("attach", "web", "nic", "user")
        self.good("upgrade", "web")
        waiting = self.detaching("web", "disk0"), self.detaching("web", "nic0")
        self.good("upgrade", "web")
        self.assertEqual(set(self.devices()), {"disk0", "nic0"})
        self.good("reset", "web")
        for process in waiting:
            self.assert_ended(process, 0)
        self.assertEqual(self.devices(), {})
        self.good("upgrade", "web")
        self.assert_refused_with(1, "the guest has not let go", "detach", "web", self.attached(), "--timeout", "1")

    def attached(self):
        return self.good("attach", "web", "disk", self.disks[0]).split()[0]

    def test_a_state_has_it(self):
        self.keep()
        self.good("attach", "web", "disk", self.disks[0] + ",id=data")
        waiting = self.detaching("web", "data")
        state = os.path.join(self.folder, "state")
        self.good("state", "save", "web", state)
        self.good("kill", "web")
        self.assert_ended(waiting, 1)
        session = self.start_state(state)
        wait_for(lambda: self.running("again"), "the machine")
        self.assertEqual(self.devices("again"), {"data": "01:00.0"})
        waiting = self.detaching("again", "data")
        self.good("reset", "again")
        self.assert_ended(waiting, 0)
        self.assertEqual(self.devices("again"), {})
        self.good("kill", "again")
        session.wait(30)

    def start_state(self, state):
        return subprocess.Popen([ANIMA, "run", "--name", "again", "--state", state, "--serial", "none"],
                                env=self.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def test_events_tell(self):
        self.keep()
        watcher = subprocess.Popen([ANIMA, "events", "web", "--json"], env=self.env,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        self.good("attach", "web", "nic", "none,id=lan")
        waiting = self.detaching("web", "lan")
        self.good("reset", "web")
        self.assert_ended(waiting, 0)
        self.good("kill", "web")
        events = [json.loads(line) for line in watcher.communicate(timeout=20)[0].splitlines()]
        told = [(event["type"], event["id"], event["kind"]) for event in events
                if event["type"].startswith("device-")]
        self.assertEqual(told, [("device-attached", "lan", "nic"), ("device-detached", "lan", "nic")])


if __name__ == "__main__":
    unittest.main()
