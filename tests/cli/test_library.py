#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""libanima as programs see it: the examples in C, built by the pkg-config file, and in Python; the
Python module; the manual's pages."""
import ctypes
import glob
import json
import keyword
import os
import subprocess
import sys
import threading
import unittest

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for

BUILD = os.path.dirname(os.path.dirname(ANIMA))
API = os.path.join(BUILD, "lib", "api")
SOURCE = os.environ["ANIMA_SOURCE"]
EXAMPLES = os.path.join(SOURCE, "examples")
sys.path[:0] = [API, os.path.join(SOURCE, "lib", "api")]


class Examples(AnimaTest):
    def setUp(self):
        super().setUp()
        self.env["LD_LIBRARY_PATH"] = os.path.join(BUILD, "lib")
        self.env["PYTHONPATH"] = API
        self.env["PKG_CONFIG_PATH"] = os.path.join(BUILD, "meson-uninstalled")

    def built(self, name):
        """The example as a program."""
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "anima"], env=self.env,
                               capture_output=True, text=True, check=True).stdout.split()
        program = os.path.join(self.folder, "example-" + name)
        result = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-o", program,
                                 os.path.join(EXAMPLES, name + ".c"), *flags, "-pthread"],
                                capture_output=True, text=True, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return program

    def run_program(self, *words, **options):
        return subprocess.run(words, env=self.env, capture_output=True, text=True, check=False,
                              timeout=PATIENCE, **options)

    def test_run(self):
        program = self.built("run")
        result = self.run_program(program, PAYLOAD, "engine=soft", "memory=64M", input="q")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("hello", result.stdout)
        self.assertIn("the machine has ended: power-off", result.stderr)
        result = self.run_program(program, PAYLOAD, "memory=much")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "^run: memory: expected a size[^\n]*\n$")
        result = self.run_program(program, "/nowhere/kernel")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nowhere/kernel: No such file", result.stderr)

    def test_save(self):
        self.greeted()
        program, state = self.built("save"), os.path.join(self.folder, "state")
        result = self.run_program(program, "test", state)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("MiB", result.stderr)
        self.assertEqual(self.anima("state", "dump", state).returncode, 0)
        # To a pipe that nobody reads, until it has had enough.
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        result = self.run_program(program, "test", fifo, "0.1")
        os.close(reader)
        self.assertEqual(result.returncode, 1)
        self.assertIn("save: stream: cancelled", result.stderr)
        self.assertEqual(self.query()["state"], "running")
        self.assertIn("no machine called 'nobody'",
                      self.run_program(program, "nobody", state).stderr)

    def test_watch(self):
        self.greeted()
        with subprocess.Popen([self.built("watch"), "test"], env=self.env, text=True,
                              stdout=subprocess.PIPE) as watch:
            self.assertEqual(watch.stdout.readline(), "it is running\n")
            for method in "pause", "resume", "kill":
                self.anima(method, "test")
            lines = watch.stdout.read()
            self.assertEqual(watch.wait(PATIENCE), 0)
        events = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
        self.assertEqual([event["type"] for event in events], ["paused", "running", "ended"])
        self.assertEqual([event["seq"] - events[0]["seq"] for event in events], [0, 1, 2])

    def test_machines(self):
        result = self.run_program("/usr/bin/python3", os.path.join(EXAMPLES, "machines.py"), PAYLOAD)
        lines = result.stdout.splitlines()
        self.assertEqual((result.returncode, result.stderr), (0, ""), lines)
        self.assertEqual(lines[0], "first is paused")
        self.assertRegex(lines[1], "^USAGE stop: timeout: expected a whole number")
        self.assertEqual(lines[-1], "True")
        for line in "first paused", "first ended", "second ended":
            self.assertIn(line, lines)


class Python(AnimaTest):
    """In this process, so that the module is under test from every side."""

    @classmethod
    def setUpClass(cls):
        import anima  # pylint: disable=import-outside-toplevel
        cls.library = anima

    def setUp(self):
        super().setUp()
        os.environ["ANIMA_RUNTIME_DIR"] = self.runtime

    def start_machine(self, name="test"):
        definition = self.library.Definition.create()
        for key, value in (("name", name), ("kernel", PAYLOAD), ("memory", "64M"),
                           ("engine", "soft"), ("serial", "none")):
            definition.set(key, value)
        return self.library.Machine.start(definition)

    def test_everything_is_there(self):
        import header  # pylint: disable=import-outside-toplevel
        api = header.read(os.path.join(SOURCE, "include", "anima.h"))
        hidden = {"anima_free", "anima_error_free"}
        for function in api.functions:
            if function.name in hidden or function.name.endswith("_destroy"):
                continue
            place, name = self.library, function.name[len("anima_"):]
            for handle in api.opaque:
                if function.name.startswith(handle + "_"):
                    place = getattr(self.library, handle[len("anima_"):].capitalize())
                    name = function.name[len(handle) + 1:]
            name += "_" if keyword.iskeyword(name) else ""
            self.assertTrue(callable(getattr(place, name)), function.name)
            self.assertTrue(getattr(place, name).__doc__)

    def test_options(self):
        option = self.library.Option.find("engine")
        self.assertEqual((option.key(), option.choices()), ("engine", ["auto", "kvm", "soft"]))
        self.assertIsNone(self.library.Option.find("nothing"))
        self.assertEqual(self.library.Option.nearest("memroy"), "memory")
        keys = []
        while one := self.library.Option.at(len(keys)):
            keys.append(one.key())
        self.assertIn("memory", keys)

    def test_failures_are_raised(self):
        definition = self.library.Definition.create()
        with self.assertRaises(self.library.Error) as raised:
            definition.set("memory", "much")
        self.assertEqual(raised.exception.code, self.library.Code.USAGE)
        with self.assertRaises(self.library.Error) as raised:
            self.library.Machine.connect("nobody")
        self.assertEqual(raised.exception.code, self.library.Code.ABSENT)
        with self.assertRaises(TypeError):
            self.library.Machine()
        definition.close()
        with self.assertRaises(ctypes.ArgumentError):
            definition.set("memory", "1G")

    def test_a_machine(self):
        machine = self.start_machine()
        self.assertIn("test", json.loads(self.library.Machine.list()))
        self.assertEqual(json.loads(machine.call("query"))["name"], "test")
        self.assertEqual(machine.wait(0)[0], 0)
        machine.call("kill")
        ended, end = machine.wait()
        self.assertEqual((ended, end.cause, end.status), (1, "killed", 0))
        machine.close()

    def test_calls_that_do_not_wait(self):
        machine = self.start_machine()
        calls = [machine.begin("query") for _ in range(10)]
        with self.assertRaises(self.library.Error) as raised:
            machine.begin("query", "[]")
        self.assertEqual(raised.exception.code, self.library.Code.USAGE)
        answered = []
        wait_for(lambda: (one := machine.answered()) and answered.append(one) or
                 len(answered) == 10, "the answers")
        self.assertEqual({id(one) for one in answered}, {id(one) for one in calls})
        for call in calls:
            self.assertEqual(json.loads(call.result())["state"], "running")
        reader, writer = os.pipe()
        save = machine.begin("state.save", fd=writer)
        os.close(writer)
        self.assertFalse(save.wait(100))
        with self.assertRaises(self.library.Error) as raised:
            save.result()
        self.assertEqual(raised.exception.code, self.library.Code.STATE)
        save.cancel()
        self.assertTrue(save.wait(10000))
        with self.assertRaises(self.library.Error) as raised:
            save.result()
        self.assertEqual(raised.exception.code, self.library.Code.CANCELLED)
        os.close(reader)
        machine.close()
        with self.assertRaises(self.library.Error):
            save.cancel()

    def test_threads_share_a_machine(self):
        machine, faults = self.start_machine(), []
        machine.call("events.subscribe")

        def work(method):
            try:
                for _ in range(50):
                    machine.call(method)
            except Exception as fault:  # pylint: disable=broad-except
                faults.append(fault)

        threads = [threading.Thread(target=work, args=[method])
                   for method in ("query", "pause", "resume", "metrics")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])
        last = None
        while text := machine.event(0):
            number = json.loads(text)["seq"]
            self.assertTrue(last is None or number == last + 1)
            last = number
        machine.close()


class Manual(unittest.TestCase):
    @unittest.skipUnless(os.path.exists(os.path.join(API, "libanima.3")), "no scdoc here")
    def test_each_symbol_has_a_page(self):
        library = os.path.join(BUILD, "lib", "libanima.so.0")
        symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True,
                                 text=True, check=True).stdout
        names = {line.split()[2].split("@")[0] for line in symbols.splitlines()
                 if line.split()[1] == "T"}
        pages = {os.path.basename(page)[:-2] for page in glob.glob(os.path.join(API, "anima_*.3"))}
        self.assertEqual(names, pages)
        for page in "libanima", "anima_machine_call":
            result = subprocess.run(["man", "--warnings", "-l", os.path.join(API, page + ".3")],
                                    capture_output=True, text=True, check=True)
            self.assertEqual(result.stderr, "")
            self.assertIn("DESCRIPTION", result.stdout)


if __name__ == "__main__":
    unittest.main()
