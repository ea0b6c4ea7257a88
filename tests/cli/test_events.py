#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`anima events`: of one machine and of all, as lines and as JSON."""
import json
import subprocess
import unittest

from anima_test import ANIMA, PATIENCE, AnimaTest


class Events(AnimaTest):
    def follow(self, *words):
        process = subprocess.Popen([ANIMA, "events", *words], env=self.env, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.sessions.append(Ended(process))
        return process

    def test_one_machine_up_to_its_end(self):
        self.greeted()
        # All that there was comes first, so that there is something to wait for.
        watch = self.follow("test", "--since", "0", "--json")
        while json.loads(watch.stdout.readline())["type"] != "running":
            continue
        for command in "pause", "resume", "kill":
            self.assertEqual(self.anima(command, "test").returncode, 0)
        events = [json.loads(line) for line in watch.stdout]
        self.assertEqual(watch.wait(PATIENCE), 0)
        self.assertEqual([event["type"] for event in events], ["paused", "running", "ended"])
        for before, event in zip(events, events[1:]):
            self.assertEqual(event["seq"], before["seq"] + 1)
            self.assertGreaterEqual(event["time"], before["time"])
            self.assertEqual(event["name"], "test")

    def expect(self, watch, words):
        """The first line that has these words."""
        while words not in (line := watch.stdout.readline()):
            self.assertTrue(line, f"the end, before '{words}'")
        return line

    def test_all_machines(self):
        """Those that run, and those that are started meanwhile."""
        self.greeted(name="first")
        watch = self.follow("--since", "0")
        self.expect(watch, " first running")
        self.greeted(name="second")
        line = self.expect(watch, " second running")
        self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d second running\n$")
        self.anima("kill", "first")
        self.assertIn(" cause=killed", self.expect(watch, " first ended"))
        self.anima("kill", "second")
        self.expect(watch, " second ended")
        self.assertIsNone(watch.poll())

    def test_nobody_reads_any_more(self):
        self.greeted()
        watch = self.follow("test", "--since", "0")
        self.expect(watch, " test running")
        watch.stdout.close()
        self.anima("pause", "test")
        self.anima("resume", "test")
        self.assertNotEqual(watch.wait(PATIENCE), 0)

    def test_wrong_words(self):
        self.assert_refused(1, "no machine called 'nobody' is running", "events", "nobody")
        self.assert_refused(2, "--since", "events", "--since", "yesterday")


class Ended:
    """A process among the sessions that the end of a test closes."""

    def __init__(self, process):
        self.process = process

    def close(self, force):
        if force:
            self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    unittest.main()
