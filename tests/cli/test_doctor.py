#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""anima doctor on the host that runs the tests, and on one that runs no machine."""
import json
import os
import unittest

import pexpect

from anima_test import ANIMA, AnimaTest

LEVELS = {"ok", "note", "problem", "stop"}


class Doctor(AnimaTest):
    def examine(self, status):
        said = self.anima("doctor", "--json")
        self.assertEqual(said.returncode, status, said.stderr)
        result = json.loads(said.stdout)
        self.assertEqual(result["runs"], status == 0)
        return {check["name"]: check for check in result["checks"]}

    def test_this_host_runs_machines(self):
        checks = self.examine(0)
        for name in "kvm", "huge-pages", "bridges", "iommu", "firmware", "limits":
            self.assertIn(name, checks)
        for check in checks.values():
            self.assertIn(check["level"], LEVELS - {"stop"})
            self.assertTrue(check["text"], check)
        self.assertEqual(checks["program"]["level"], "ok")
        self.assertEqual(checks["seccomp"]["level"], "ok")
        # What a machine says of itself is the same.
        session = self.greeted()
        status = self.query()
        self.assertEqual(checks["io"]["level"], "ok" if status["io"] == "io_uring" else "note")
        self.assertEqual(checks["landlock"]["level"], "ok" if status["sandbox"]["landlock"] else "note")
        session.send("q")
        self.assert_ends(session, 0)

    def test_people_see_a_line_a_check(self):
        checks = self.examine(0)
        said = self.anima("doctor").stdout.splitlines()
        lines = [line for line in said if not line.startswith(" ")]
        self.assertEqual([line.split()[1] for line in lines], list(checks))
        remedies = [check["remedy"] for check in checks.values() if "remedy" in check]
        self.assertEqual([line.split("to mend it: ")[1] for line in said if line.startswith(" ")], remedies)

    def test_a_host_that_runs_none_has_status_1(self):
        self.env["ANIMA_LIBEXEC"] = self.folder
        checks = self.examine(1)
        self.assertEqual(checks["program"]["level"], "stop")
        self.assertIn("ANIMA_LIBEXEC", checks["program"]["remedy"])
        del self.env["ANIMA_LIBEXEC"]
        self.env["ANIMA_RUNTIME_DIR"] = os.path.join(self.folder, "file")
        with open(self.env["ANIMA_RUNTIME_DIR"], "wb"):
            pass
        checks = self.examine(1)
        self.assertEqual(checks["runtime"]["level"], "stop")
        self.assertIn("problem runtime", self.anima("doctor").stdout)
        os.unlink(self.env["ANIMA_RUNTIME_DIR"])

    def test_wrong_words(self):
        self.assert_refused(2, "usage: anima doctor", "doctor", "x")

    def test_colours_are_for_terminals_and_those_who_want_them(self):
        self.assertNotIn("\033", self.anima("doctor").stdout)
        for variables, coloured in ({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), \
                ({"TERM": "dumb"}, False):
            env = {key: value for key, value in self.env.items() if key != "NO_COLOR"}
            said, _ = pexpect.run(f"{ANIMA} doctor", env=dict(env, **variables), withexitstatus=True)
            self.assertEqual(b"\033[" in said, coloured, variables)


if __name__ == "__main__":
    unittest.main()
