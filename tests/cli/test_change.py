#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""change: a machine that runs, and its definition with it; whole or not at all."""
import json
import os
import socket
import unittest

from anima_test import PAYLOAD, AnimaTest, wait_for

FOREVER = "this cannot change while the machine runs"


class Change(AnimaTest):
    def setUp(self):
        super().setUp()
        self.disk = self.make_disk("disk")

    def kept(self, *options):
        self.good("create", "web", "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft",
                  "--serial", "none", "--disk", self.disk, *options)
        self.good("start", "web")
        self.addCleanup(self.anima, "kill", "web")

    def tearDown(self):
        self.anima("kill", "web")
        super().tearDown()

    def refused(self, status, message, *words):
        """Nothing has changed then, neither what runs nor the text."""
        before = self.everything()
        self.assert_refused_with(status, message, "change", "web", *words)
        self.assertEqual(self.everything(), before)

    def everything(self):
        return self.running(), self.good("show", "web"), self.forwards()

    def running(self):
        return json.loads(self.good("show", "web", "--running", "--json"))

    def forwards(self):
        return json.loads(self.good("query", "web", "--json"))["forwards"]

    def ports(self):
        return [(one["proto"], one["guest_port"]) for one in self.forwards()]

    def test_what_changes_and_what_stays(self):
        self.kept("--nic", "user,forward=tcp:0:22")
        card = self.running()["nic"][0]
        self.good("change", "web", "nic0", "network=none", "rate=10M")
        self.assertEqual(self.forwards(), [])
        now = self.running()["nic"][0]
        self.assertEqual((now["network"], now["rate"], now["mac"]), ("none", 10 << 20, card["mac"]))
        self.assertIn("network: none\n", self.good("show", "web"))
        # What runs alone; then back, without a word on the rest.
        self.good("change", "web", "nic0", "link=down", "rate=", "--temporary")
        self.assertNotIn("link", self.good("show", "web"))
        self.assertEqual(self.running()["nic"][0]["link"], "down")
        self.good("change", "web", "nic0", "network=user")
        self.assertEqual(self.ports(), [("tcp", 22)])
        shown = self.good("show", "web")
        self.assertIn("network: user\n", shown)
        self.assertIn("rate: 10M\n", shown)
        self.good("change", "web", "disk0", "iops=100", "bps-write=1M", "burst=0")
        self.assertEqual(self.running()["disk"][0]["iops"], 100)
        self.assertIn("bps-write: 1M\n", self.good("show", "web"))
        self.good("change", "web", "restart=on-failure", "autostart=yes")
        self.assertEqual(self.running()["restart"], "on-failure")
        self.assertTrue(json.loads(self.good("list", "--json"))[0]["autostart"])

    def test_what_cannot_change_says_so(self):
        self.kept("--nic", "user,forward=tcp:0:22")
        self.refused(2, f"nic0: mac: {FOREVER}", "nic0", "rate=1M", "mac=52:54:00:00:00:01")
        self.refused(2, f"nic0: mtu: {FOREVER}", "nic0", "mtu=1400")
        self.refused(2, f"disk0: cache: {FOREVER}", "disk0", "cache=none", "iops=5")
        self.refused(2, f"disk0: file: {FOREVER}", "disk0", f"file={self.disk}2")
        self.refused(2, f"memory: {FOREVER}", "memory=128M")
        self.refused(2, f"cpus: {FOREVER}", "restart=always", "cpus=2")
        self.refused(2, "autostart: this is looked up in vm.yaml", "autostart=yes", "--temporary")
        self.refused(2, "name: a kept machine has the name of its folder", "name=other")

    def test_words_that_are_wrong(self):
        self.kept("--nic", "user")
        self.refused(2, "nic0: unknown member 'ratt'; did you mean 'rate'?", "nic0", "ratt=1M")
        self.refused(2, "nic0: rate: expected a size", "nic0", "rate=fast")
        self.refused(2, "disk0: iops: 0 is less than the minimum of 1", "disk0", "iops=0")
        self.refused(2, "nic0: rate: this is no list", "nic0", "rate+=1M")
        self.refused(2, "nic0: forward: there is no entry 'tcp:1:2'", "nic0", "forward-=tcp:1:2")
        self.refused(2, "nic0: network is missing", "nic0", "network=")
        self.refused(1, "nic1: the machine has no such disk or network card", "nic1", "link=down")
        self.refused(2, "nic0: say what changes", "nic0")
        self.refused(2, "expected OPTION=VALUE", "nic0", "link=up", "rate")
        self.refused(2, "unknown option 'restrt'; did you mean 'restart'?", "restrt=always")

    def test_what_the_host_does_not_play_along_with(self):
        self.kept("--nic", "user,forward=tcp:0:22")
        first = self.forwards()
        self.refused(1, "nic: tap=nowhere0: ", "nic0", "network=tap=nowhere0")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            mine = f"Address already in use, by process {os.getpid()} (python3)"
            self.refused(1, f"nic0: forward tcp 127.0.0.1:{port}: {mine}", "nic0",
                         f"forward+=tcp:{port}:80", "forward-=tcp:0:22", "rate=1M")
            self.good("change", "web", "nic0", "network=none")
            self.good("change", "web", "nic0", f"forward=tcp:{port}:80")
            self.refused(1, f"nic: forward tcp 127.0.0.1:{port}: {mine}", "nic0", "network=user")
        self.good("change", "web", "nic0", "network=user")
        self.assertEqual(self.ports(), [("tcp", 80)])
        self.assertNotEqual(self.forwards(), first)

    def test_a_port_of_roots(self):
        """The helper has no rights when it runs."""
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            if int(file.read()) <= 1023:
                self.skipTest("this host lets everybody have all ports")
        self.kept("--nic", "user")
        self.refused(1, "Permission denied; ports below 1024 are root's", "nic0", "forward+=tcp:1023:80")

    def test_forwards_come_and_go(self):
        self.kept("--nic", "user,forward=tcp:0:22")
        ssh = self.forwards()[0]
        self.assertIn(f"\nforwards:\n  - nic=nic0 proto=tcp host=127.0.0.1 host_port={ssh['host_port']} ",
                      self.good("query", "web"))
        self.good("change", "web", "nic0", "forward+=tcp:0:22", "forward+=udp:0:53")
        self.assertEqual(self.ports(), [("tcp", 22), ("tcp", 22), ("udp", 53)])
        self.assertEqual(self.forwards()[0], ssh)
        with socket.create_connection(("127.0.0.1", ssh["host_port"])):
            pass
        # One that is there already does not move, whatever its place in the list.
        self.good("change", "web", "nic0", "forward=udp:0:53", "forward=tcp:0:22")
        self.assertEqual(self.ports(), [("udp", 53), ("tcp", 22)])
        self.assertEqual(self.forwards()[1], ssh)
        self.good("change", "web", "nic0", "forward=")
        self.assertEqual(self.forwards(), [])
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ssh["host_port"]))
        # The same port for something else.
        port = ssh["host_port"]
        self.good("change", "web", "nic0", f"forward=tcp:{port}:22")
        self.good("change", "web", "nic0", f"forward=tcp:{port}:23")
        self.assertEqual(self.ports(), [("tcp", 23)])

    def test_an_upgrade_and_a_new_life_go_on_with_it(self):
        self.kept("--nic", "none", "--paused")
        self.good("change", "web", "nic0", "network=user", "forward=tcp:0:22")
        self.good("change", "web", "restart=on-failure")
        first = self.forwards()
        self.good("upgrade", "web")
        self.assertEqual(self.forwards(), first)
        self.good("change", "web", "nic0", "forward+=tcp:0:80")
        pid = json.loads(self.good("query", "web", "--json"))["pid"]
        os.kill(pid, 9)
        wait_for(lambda: self.anima("query", "web").returncode == 0 and
                 json.loads(self.good("query", "web", "--json"))["pid"] != pid, "another life")
        self.assertEqual(self.ports(), [("tcp", 22), ("tcp", 80)])

    def test_a_device_that_is_not_kept(self):
        self.kept("--nic", "user")
        self.good("edit", "web", "nic=")
        self.refused(1, "nic0: the definition has no such disk or network card", "nic0", "link=down")
        self.good("change", "web", "nic0", "link=down", "--temporary")
        self.assertEqual(self.running()["nic"][0]["link"], "down")

    def test_a_machine_that_does_not_run(self):
        result = self.anima("change", "gone", "restart=always")
        self.assertEqual(result.returncode, 1)
        self.assertIn("gone", result.stderr)

    def test_one_that_is_not_kept(self):
        session = self.greeted("--nic", "none", name="web")
        self.good("change", "web", "nic0", "network=user", "forward=tcp:0:22")
        self.assertEqual(self.ports(), [("tcp", 22)])
        self.assertFalse(os.path.exists(os.path.join(self.data, "web")))
        session.send("q")
        session.expect("$")
        self.anima("kill", "web")


if __name__ == "__main__":
    unittest.main()
