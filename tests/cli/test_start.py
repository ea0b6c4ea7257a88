#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""start and the restart policy: machines that live without the command that started them."""
import json
import os
import signal
import time
import unittest

from anima_test import PAYLOAD, AnimaTest, wait_for


class Start(AnimaTest):
    def tearDown(self):
        self.kill_all()
        super().tearDown()

    def create(self, name="web", *options):
        self.good("create", name, "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", *options)

    def read(self, file, name="web"):
        """What the file says; nothing at the moment when the monitor puts it aside."""
        try:
            with open(os.path.join(self.data, name, file), encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return ""

    def state(self, name="web"):
        """Its state, or "off"."""
        machines = json.loads(self.good("list", "--json"))
        return next((machine["state"] for machine in machines if machine["name"] == name), None)

    def await_state(self, state, name="web"):
        wait_for(lambda: self.state(name) == state, state, 20)

    def slay(self, name="web"):
        """The vmm dies of itself; its process."""
        pid = self.query(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid

    def test_a_machine_lives_without_its_command(self):
        self.create()
        self.good("start", "web")
        self.assertEqual(self.query("web")["state"], "running")
        wait_for(lambda: "hello" in self.read("console.log"), "the console")
        self.assert_refused_with(1, "a machine called 'web' is running already", "start", "web")
        with open(os.path.join(self.runtime, "web", "lock"), encoding="ascii") as lock:
            self.assertEqual(int(lock.read()), self.query("web")["monitor_pid"])
        self.good("kill", "web")
        self.await_state("off")
        self.assertRegex(self.read("log"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d 'web' was started\n"
                                           r".* ended: killed: the machine was killed\n$")

    def test_what_runs_is_shown(self):
        self.create("web", "--nic", "none", "--device", "virtio-rng")
        self.good("start", "web")
        self.good("edit", "web", "nic+=none,id=second")
        shown = json.loads(self.good("show", "web", "--running", "--json"))
        self.assertEqual([(nic["id"], nic["address"]) for nic in shown["nic"]], [("nic0", "00:03.0")])
        self.assertIn("address: 00:03.0\n", self.good("show", "--running", "web"))
        self.good("kill", "web")
        self.await_state("off")
        self.assert_refused_with(1, "no machine called 'web' is running", "show", "--running", "web")

    def test_several_and_one_of_them_faulty(self):
        self.create("a")
        self.create("b", "--initrd", "/nonexistent")
        self.create("c")
        self.assert_refused_with(1, "initrd: /nonexistent: No such file", "start", "a", "b", "c")
        self.assertEqual([self.state(name) for name in "abc"], ["running", "off", "running"])
        self.assert_refused_with(1, "nobody: no machine of this name is defined", "start", "nobody")

    def test_a_kill_leaves_nothing(self):
        self.create("web", "--restart", "always")
        for _ in range(3):
            self.good("start", "web")
            with self.connect("web") as one, self.connect("web") as other:
                for connection in one, other: # the second finds it dying
                    connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "kill"}\n')
                self.assertEqual(json.loads(one.makefile().readline())["result"], {})
                self.assertFalse(os.path.exists(os.path.join(self.runtime, "web")))
        self.good("start", "web")
        # One that does not wait for the answer does no harm to one that does.
        with self.connect("web") as connection:
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "kill"}\n')
        self.anima("kill", "web")
        wait_for(lambda: not os.path.exists(os.path.join(self.runtime, "web")), "the end")
        self.good("start", "web")
        self.good("kill", "web")
        self.good("delete", "--yes", "web")

    def test_logs_have_two_generations(self):
        self.create()
        folder = os.path.join(self.data, "web")
        for file in "log", "console.log":
            with open(os.path.join(folder, file), "w", encoding="ascii") as stream:
                stream.write("x" * (1 << 20) + "\n")
        self.good("start", "web")
        # For a moment the old one is aside and there is no new one.
        wait_for(lambda: os.path.exists(os.path.join(folder, "console.log")) and "hello" in self.read("console.log"),
                 "the console")
        self.good("kill", "web")
        # They had just reached the size: one more byte, and they are put aside.
        self.assertEqual(sorted(os.listdir(folder)),
                         ["console.log", "console.log.old", "log", "log.old", "vm.yaml"])
        self.assertLess(os.path.getsize(os.path.join(folder, "log")), 1000)

    # ---- with the host ----

    def events(self, name):
        """When the machine was started and ended, as its log tells."""
        return [line.split(" ", 2)[2] for line in self.read("log", name).splitlines()]

    def test_those_that_start_with_the_host(self):
        self.create("last", "--autostart", "--start-order", "900")
        self.create("first", "--autostart", "--start-order", "1", "--start-delay", "1")
        self.create("second", "--autostart", "--stop-timeout", "1")
        self.create("other")
        self.create("faulty", "--autostart")
        with open(os.path.join(self.data, "faulty", "vm.yaml"), "a", encoding="ascii") as stream:
            stream.write("memory: much\n")
        self.assert_refused_with(1, "vm.yaml:7:1: memory: stands here twice", "start", "--autostart")
        machines = {machine["name"]: machine for machine in json.loads(self.good("list", "--json"))}
        self.assertEqual({name: machine["state"] for name, machine in machines.items()},
                         {"last": "running", "first": "running", "second": "running", "other": "off",
                          "faulty": "faulty"})
        births = [machines[name]["uptime_ms"] for name in ("first", "second", "last")]
        self.assertEqual(births, sorted(births, reverse=True))
        self.assertGreater(births[0] - births[1], 990)
        # Those that run are left alone.
        self.good("start", "other")
        self.assertEqual(self.anima("start", "--autostart").returncode, 1)
        # The payload has no power button: each is killed after its time, the last of them first.
        self.good("edit", "first", "stop-timeout=0")
        self.good("edit", "last", "stop-timeout=0")
        result = self.anima("stop", "--autostart")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        machines = {machine["name"]: machine["state"] for machine in json.loads(self.good("list", "--json"))}
        self.assertEqual([machines[name] for name in ("first", "second", "last", "other")],
                         ["off", "off", "off", "running"])
        ends = [os.path.getmtime(os.path.join(self.data, name, "log")) for name in ("last", "second", "first")]
        self.assertEqual(ends, sorted(ends))
        self.assertGreater(ends[1] - ends[0], 0.8)
        for name in "first", "second", "last":
            self.assertEqual(self.events(name), [f"'{name}' was started", "ended: killed: the guest did not "
                                                 "power off in time and was killed"])

    def test_stop_waits_for_several_at_once(self):
        for name in "a", "b", "c":
            self.create(name, "--stop-timeout", "1")
        self.good("start", "a", "b", "c")
        begin = time.monotonic()
        self.good("stop", "--wait", "a", "b")
        self.assertLess(time.monotonic() - begin, 1.9)
        self.assertEqual([self.state(name) for name in "abc"], ["off", "off", "running"])
        self.good("stop", "--all", "--timeout", "0")
        self.assertEqual(self.state("c"), "off")
        self.assert_refused_with(1, "no machine called 'a' is running", "stop", "--wait", "a")

    def test_wrong_words(self):
        for words in ["start"], ["start", "--autostart", "a"]:
            self.assert_refused(2, "start: name machines, or say --autostart", *words)
        for words in ["stop"], ["stop", "--all", "a"], ["stop", "--all", "--autostart"]:
            self.assert_refused(2, "stop: name machines, or say --autostart or --all", *words)

    # ---- restart ----

    def test_a_dead_vmm_is_replaced(self):
        self.create("web", "--restart", "on-failure")
        self.good("start", "web")
        monitor = self.query("web")["monitor_pid"]
        wait_for(lambda: "hello" in self.read("console.log"), "the first life's console")
        first = self.slay()
        self.await_state("restarting")
        self.assert_refused_with(1, "no machine is running", "query", "web")
        self.await_state("running")
        status = self.query("web")
        self.assertEqual(status["monitor_pid"], monitor)
        self.assertNotEqual(status["pid"], first)
        wait_for(lambda: self.read("console.log").count("hello") == 2, "the second life's console")
        self.assertIn("failed: the vmm was killed by signal 9 (Killed)", self.read("log"))
        self.assertIn("it starts again in 1 s", self.read("log"))

    def test_without_the_policy_it_stays_dead(self):
        self.create()
        self.good("start", "web")
        self.slay()
        self.await_state("off")
        self.assertIn("ended: failed: the vmm was killed by signal 9", self.read("log"))

    def test_an_end_between_two_lives(self):
        self.create("web", "--restart", "always")
        for command in ["stop", "web"], ["kill", "web"], ["stop", "web", "--timeout", "5"]:
            self.good("start", "web")
            self.slay()
            self.await_state("restarting")
            self.good(*command)
            self.await_state("off")
            self.assert_nothing_left()

    def test_what_is_asked_for_is_final(self):
        self.create("web", "--restart", "always")
        for command in ["kill", "web"], ["stop", "web", "--timeout", "1"]:
            self.good("start", "web")
            self.good(*command)
            self.await_state("off")
            self.assert_nothing_left()

    def test_a_guest_that_powers_off_and_one_that_crashes(self):
        for policy, key, again in ("on-failure", "c", True), ("on-failure", "q", False), ("always", "q", True):
            session = self.greeted("--restart", policy)
            session.send(key)
            if again:
                session.expect("it starts again in 1 s")
                session.expect("hello")
                session.send(key)
                session.expect("it starts again in 2 s")
                # A user who leaves between two lives.
                session.send("\x1d")
            self.assert_ends(session, 0)
            self.assert_nothing_left()

    def test_a_life_that_cannot_begin_is_tried_again(self):
        kernel = os.path.join(self.folder, "kernel")
        os.symlink(PAYLOAD, kernel)
        self.good("create", "web", "--kernel", kernel, "--memory", "64M", "--engine", "soft", "--restart", "always")
        self.good("start", "web")
        os.unlink(kernel)
        self.slay()
        wait_for(lambda: "kernel: No such file or directory; it starts again in 2 s" in self.read("log"),
                 "the second attempt")
        os.symlink(PAYLOAD, kernel)
        self.await_state("running")

    def test_the_shortest_time_to_stop_counts(self):
        self.create()
        self.good("start", "web")
        connection = self.connect("web")
        for number, timeout in (1, 300), (2, 1), (3, 300):
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": number, "method": "stop",
                                           "params": {"timeout": timeout}}).encode() + b"\n")
        self.await_state("off")
        connection.close()


if __name__ == "__main__":
    unittest.main()
