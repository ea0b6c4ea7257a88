#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`anima console`: several viewers of one line, what was said before, and who leaves."""
import subprocess
import unittest

import pexpect

from anima_test import ANIMA, CTRL_BRACKET, PATIENCE, AnimaTest, wait_for


class Console(AnimaTest):
    def view(self, *words):
        session = pexpect.spawn(ANIMA, ["console", *words], env=self.env, timeout=PATIENCE,
                                encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        return session

    def test_several_viewers(self):
        owner = self.greeted()
        first, second = self.view("test"), self.view("test")
        for viewer in first, second:
            viewer.expect("hello")
        for typing in owner, first, second:
            typing.send("!")
            for session in owner, first, second:
                session.expect("!")
        first.send(CTRL_BRACKET)
        self.assert_ends(first, 0)
        self.assertEqual(self.query()["state"], "running")
        second.send("q")
        for session in second, owner:
            self.assert_ends(session, 0)

    def test_without_what_was_said(self):
        owner = self.greeted()
        viewer = self.view("test", "--no-scrollback")
        # Its line is there when what it types is heard.
        wait_for(lambda: viewer.send("!") and not owner.expect(["!", pexpect.TIMEOUT], timeout=0.2),
                 "the viewer")
        viewer.expect("!")
        self.assertNotIn("hello", viewer.before)

    def test_one_that_only_looks(self):
        owner = self.greeted()
        viewer = self.view("test", "--readonly")
        viewer.expect("hello")
        viewer.send("q")
        owner.send("!")
        viewer.expect("!")
        self.assertEqual(self.query()["state"], "running")

    def test_over_an_upgrade(self):
        self.greeted()
        viewer = self.view("test")
        viewer.expect("hello")
        self.assertEqual(self.anima("upgrade", "test").returncode, 0)
        viewer.send("!")
        viewer.expect("!")

    def test_in_a_pipe(self):
        self.greeted()
        with subprocess.Popen([ANIMA, "console", "test"], env=self.env, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as viewer:
            self.assertEqual(viewer.stdout.read(5), "hello")
            words, _ = viewer.communicate("q", timeout=PATIENCE)
        self.assertTrue(words.endswith("q"), words)
        self.assertEqual(viewer.returncode, 0)

    def test_a_machine_without_such_a_line(self):
        session = self.start("--serial", "none")
        wait_for(lambda: self.anima("query", "test").returncode == 0, "the machine")
        result = self.anima("console", "test")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("no line of the machine is on stdio", result.stderr)
        self.anima("kill", "test")
        self.assert_ends(session, 0)
        self.assert_refused(1, "no machine called 'test' is running", "console", "test")


if __name__ == "__main__":
    unittest.main()
