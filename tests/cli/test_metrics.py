#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`anima metrics`, and the switches and files of those who debug the software CPU."""
import json
import os
import re
import stat
import unittest

from anima_test import PAYLOAD, AnimaTest


class Metrics(AnimaTest):
    def metrics(self, name="test"):
        result = self.anima("metrics", name, "--json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return json.loads(result.stdout)

    def test_what_happened_is_counted(self):
        session = self.greeted()
        before = self.metrics()
        self.assertEqual(before["engine"], "soft")
        session.send("!")
        session.expect("!")
        after = self.metrics()
        for name, counter in after["counters"].items():
            self.assertTrue(counter["about"], name)
            self.assertEqual(len(counter["vcpus"]), 1)
            self.assertEqual(counter["total"], sum(counter["vcpus"]))
            self.assertGreaterEqual(counter["total"], before["counters"][name]["total"])
        # It polls the line's status, so that more was asked than the one byte's two.
        self.assertGreater(after["counters"]["ports"]["total"],
                           before["counters"]["ports"]["total"] + 1)
        self.assertGreater(after["counters"]["blocks_decoded"]["total"], 0)

    def test_each_vcpu_has_its_own(self):
        self.greeted("--cpus", "3")
        counter = self.metrics()["counters"]["blocks_decoded"]
        self.assertEqual(len(counter["vcpus"]), 3)
        self.assertGreater(counter["vcpus"][0], 0)
        self.assertEqual(counter["vcpus"][1:], [0, 0])
        text = self.anima("metrics", "test").stdout.splitlines()
        self.assertEqual(text[0], "engine: soft")
        self.assertEqual(text[1].split(), ["total", "cpu", "0", "cpu", "1", "cpu", "2"])
        row = next(line.split() for line in text if line.startswith("blocks_decoded "))
        self.assertEqual(row[3:5], ["0", "0"])

    def test_for_prometheus(self):
        """Each metric is told of once, before all of its samples."""
        for name in "one", "two":
            self.greeted("--cpus", "2", name=name)
        result = self.anima("metrics", "--prometheus")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        told, samples = {}, {}
        for line in result.stdout.splitlines():
            if line.startswith("# TYPE "):
                _, _, metric, kind = line.split()
                self.assertNotIn(metric, told)
                told[metric] = kind
            elif not line.startswith("# HELP "):
                match = re.fullmatch(r'(\w+)\{(\w+="[^"]*"(?:,\w+="[^"]*")*)\} ([-+.e0-9]+)', line)
                self.assertTrue(match, line)
                self.assertEqual(match[1], list(told)[-1])
                samples[match[1], match[2]] = float(match[3])
        self.assertEqual(told["anima_vcpu_blocks_decoded_total"], "counter")
        for name in "one", "two":
            self.assertEqual(samples["anima_machine_cpus", f'machine="{name}"'], 2)
            self.assertEqual(samples["anima_machine_running", f'machine="{name}"'], 1)
            self.assertEqual(samples["anima_machine_memory_bytes", f'machine="{name}"'], 64 << 20)
            decoded = [samples["anima_vcpu_blocks_decoded_total", f'machine="{name}",vcpu="{i}"']
                       for i in range(2)]
            self.assertGreater(decoded[0], 0)
            self.assertEqual(decoded[1], 0)
        alone = self.anima("metrics", "one", "--prometheus").stdout
        self.assertIn('machine="one"', alone)
        self.assertNotIn('machine="two"', alone)
        self.assert_refused_here(2, "usage", "metrics")
        self.assert_refused_here(1, "nobody", "metrics", "nobody", "--prometheus")

    def assert_refused_here(self, status, message, *words):
        """While machines run."""
        result = self.anima(*words)
        self.assertEqual((result.returncode, result.stdout), (status, ""))
        self.assertIn(message, result.stderr)

    @unittest.skipUnless(os.access("/dev/kvm", os.R_OK | os.W_OK), "no /dev/kvm here")
    def test_kvm_counts_exits(self):
        self.greeted("--engine", "kvm")
        metrics = self.metrics()
        self.assertEqual(metrics["engine"], "kvm")
        self.assertGreater(metrics["counters"]["exits_pio"]["total"], 0)

    def test_top(self):
        """A guest that looks for work takes some of a processor, a paused one nothing."""
        for name in "busy", "idle":
            self.greeted(name=name)
        self.anima("pause", "idle")
        result = self.anima("top", "--once", "--interval", "0.5", "--json")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        busy, idle = json.loads(result.stdout)
        self.assertEqual((busy["name"], idle["name"], idle["state"]), ("busy", "idle", "paused"))
        self.assertGreater(busy["cpu_percent"], 1)
        self.assertLess(idle["cpu_percent"], busy["cpu_percent"] / 2)
        self.assertGreater(busy["resident"], 1 << 20)
        lines = self.anima("top", "--once", "--interval", "0.1").stdout.splitlines()
        self.assertEqual(lines[0].split()[:2], ["NAME", "STATE"])
        self.assertEqual({line.split()[0] for line in lines[1:]}, {"busy", "idle"})
        self.assert_refused_here(2, "--interval", "top", "--interval", "soon")

    def test_a_machine_that_is_not_there(self):
        self.assert_refused(1, "nobody", "metrics", "nobody")


class Switches(AnimaTest):
    def counters(self):
        result = self.anima("metrics", "test", "--json")
        return {name: counter["total"]
                for name, counter in json.loads(result.stdout)["counters"].items()}

    def counters_under(self, switches):
        """What the payload's counters are when it has answered some bytes."""
        self.env["ANIMA_SOFT"] = switches
        session = self.greeted()
        for _ in range(40):
            session.send("!")
            session.expect("!")
        counters = self.counters()
        session.send("q")
        self.assert_ends(session, 0)
        return counters

    def test_code_is_translated_and_linked(self):
        counters = self.counters_under("")
        for name in "blocks_translated", "bytes_translated", "chains", "exits", "interpreted":
            self.assertGreater(counters[name], 0, name)

    def test_interp_translates_nothing(self):
        counters = self.counters_under("interp")
        self.assertGreater(counters["blocks_decoded"], 0)
        self.assertEqual(counters["blocks_translated"], 0)

    def test_nochain_links_nothing(self):
        counters = self.counters_under("nochain")
        self.assertGreater(counters["blocks_translated"], 0)
        self.assertEqual(counters["chains"], 0)

    def test_eager_translates_what_ran_once(self):
        hot, all_of_them = self.counters_under(""), self.counters_under("eager")
        self.assertGreater(all_of_them["blocks_translated"], hot["blocks_translated"])

    def test_exact_keeps_flags_that_nobody_reads(self):
        sizes = []
        for switches in "eager", "eager,exact":
            counters = self.counters_under(switches)
            sizes.append(counters["bytes_translated"] / counters["blocks_translated"])
        self.assertGreater(sizes[1], sizes[0])

    def test_an_unknown_switch_is_refused(self):
        self.env["ANIMA_SOFT"] = "nobmi2,fast"
        self.assert_refused(2, "ANIMA_SOFT: there is no switch 'fast'", "run", "--engine", "soft",
                            "--kernel", PAYLOAD)

    def test_a_log_that_cannot_be_opened_is_refused(self):
        self.env["ANIMA_SOFT_LOG"] = os.path.join(self.folder, "none", "log")
        self.assert_refused(1, "ANIMA_SOFT_LOG: ", "run", "--engine", "soft", "--kernel", PAYLOAD)

    def test_the_log_shows_what_became_of_code(self):
        path = self.env["ANIMA_SOFT_LOG"] = os.path.join(self.folder, "log")
        self.env["ANIMA_SOFT"] = "eager"
        self.greeted()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        with open(path, encoding="ascii") as log:
            blocks = log.read().rstrip("\n").split("\n\n")
        self.assertGreater(len(blocks), 0)
        self.assertLessEqual(len(blocks), self.counters()["blocks_translated"])
        for block in blocks:
            head, *lines = block.splitlines()
            self.assertRegex(head, "^block 0x[0-9a-f]+, vcpu 0, mode [0-9]+, (32|64)-bit code: "
                             "[0-9]+ bytes at 0x[0-9a-f]+$")
            for line in lines:
                self.assertRegex(line, "^(  behind|  [0-9a-f]{16}  .+|        [0-9a-f]{12}  .+)$")
                self.assertNotIn("no instruction", line)
        # It waits for its line by TEST AL, 0x20.
        self.assertRegex("".join(blocks), "  [0-9a-f]{16}  test al, 0x(20|01)")

    def test_a_perf_map_is_new_and_follows_the_process(self):
        self.env["ANIMA_SOFT"] = "perf,eager"
        session = self.greeted()
        maps = []
        for _ in range(2):
            maps.append(f"/tmp/perf-{self.query()['pid']}.map")
            self.addCleanup(os.unlink, maps[-1])
            self.assertEqual(stat.S_IMODE(os.lstat(maps[-1]).st_mode), 0o600)
            self.assertTrue(stat.S_ISREG(os.lstat(maps[-1]).st_mode))
            if len(maps) == 1:
                self.assertEqual(self.anima("upgrade", "test").returncode, 0)
        self.assertNotEqual(maps[0], maps[1])
        session.send("!")
        session.expect("!")
        for path in maps:
            with open(path, encoding="ascii") as names:
                first, *rest = names.read().splitlines()
            self.assertRegex(first, "^[0-9a-f]+ [0-9a-f]+ anima:glue 0x0$")
            self.assertGreater(len(rest), 0)
            for line in rest:
                self.assertRegex(line, "^[0-9a-f]+ [0-9a-f]+ anima:(block|cold) 0x[0-9a-f]+$")

    def test_every_switch_leaves_the_guest_as_it_is(self):
        for switches in "nowindows", "nobmi2,noavx", "interp,nochain,nowindows,nobmi2,noavx,exact":
            self.counters_under(switches)

    def test_nothing_is_writable_and_executable(self):
        self.greeted()
        with open(f"/proc/{self.query()['pid']}/maps", encoding="utf-8") as maps:
            permissions = [re.split(" +", line)[1] for line in maps]
        self.assertIn("r-xs", permissions)
        self.assertFalse([p for p in permissions if "w" in p and "x" in p])


if __name__ == "__main__":
    unittest.main()
