#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The manual: every example in it, in --help and in the README is run, and commands, options, methods
and events are the same in --help, the manual pages, the completion scripts and protocol.describe."""
import json
import os
import re
import shutil
import subprocess
import threading
import unittest

import pexpect

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for

SOURCE = os.environ["ANIMA_SOURCE"]
DOCS = os.environ["ANIMA_DOCS"]

# Examples of these commands need a guest of more than one program: who runs what --help shows.
IN_GUESTS = {"guest": "tests/guest/run-agent", "ssh": "tests/guest/run-cloud"}

DOMAIN = ("<domain><name>old</name><memory unit='MiB'>256</memory><os><kernel>{kernel}</kernel></os><devices/>"
          "</domain>")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here\n"


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as stream:
        return stream.read()


def help_of(*command):
    return subprocess.run([ANIMA, "help", *command], capture_output=True, text=True, check=True).stdout


def commands():
    return re.findall(r"(?m)^  ([a-z]+) ", help_of())


def examples_of(command):
    """Lines of the part "examples" of --help."""
    part = re.search(r"\nexamples:\n((?:  .*\n)+)", help_of(command))
    return [line.strip() for line in part[1].splitlines() if not line.startswith("  #")] if part else []


def flags_of(command):
    """Options of --help: the command's own and those of a definition."""
    part = help_of(command).partition("\noptions:\n")[2]
    return re.findall(r"(?m)^  --([a-z-]+)", part)


def blocks(text):
    """What stands in literal blocks of a manual's source."""
    return re.findall(r"(?m)^```\n(.*?)\n```$", text, re.DOTALL)


def readme_lines():
    """Commands of ours in the README, without what is said beside them."""
    return [re.sub(r" {2,}.*", "", line.strip()) for line in read(SOURCE, "README.md").splitlines()
            if re.match(r"    (build/cli/)?anima [a-z]+ ", line)]


class Examples(AnimaTest):
    """A folder with the files that examples name, and the machines that they are about."""

    def setUp(self):
        super().setUp()
        self.work = os.path.join(self.folder, "work")
        programs = os.path.join(self.work, "build", "cli")
        os.makedirs(programs)
        os.symlink(ANIMA, os.path.join(programs, "anima"))
        self.env["PATH"] = programs + ":" + self.env["PATH"]
        for name in "vmlinuz", "VMLINUZ":
            shutil.copy(PAYLOAD, os.path.join(self.work, name))
        for name in "initrd.img", "INITRD", "root.img", "data.img", "cloud.img":
            with open(os.path.join(self.work, name), "wb") as stream:
                stream.truncate(1 << 20)
        domain = DOMAIN.format(kernel=os.path.join(self.work, "vmlinuz"))
        for name, text in ("guest.xml", domain), ("id.pub", KEY), ("vm.yaml", "kernel: vmlinuz\nmemory: 64M\n"):
            with open(os.path.join(self.work, name), "w", encoding="utf-8") as stream:
                stream.write(text)

    def tearDown(self):
        self.anima("stop", "--all", "--timeout", "0")
        super().tearDown()

    def good(self, *words, **options):
        return super().good(*words, cwd=self.work, **options)

    def shell(self, line):
        """Run the line in a shell, as a user does; it succeeds. Its output."""
        result = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=self.work, env=self.env,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
                                check=False)
        self.assertEqual(result.returncode, 0, f"{line}: {result.stderr}")
        self.assertNotIn("unknown", result.stderr, line)
        return result.stdout

    def on_terminal(self, line, hears="hello", types="q", ends=True):
        """Run the line on a terminal: when `hears` has come, `types` is typed."""
        session = pexpect.spawn("bash", ["-c", line], cwd=self.work, env=self.env, timeout=PATIENCE,
                                encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        if hears:
            session.expect(hears)
        session.send(types)
        if ends:
            self.assert_ends(session, 0)
        return session

    # ---- scenes: what is there before an example, and who plays along ----

    def keep(self, *names):
        for name in names:
            self.good("create", name, "--kernel", "vmlinuz", "--memory", "64M", "--engine", "soft", "--disk",
                      "root.img,readonly", "--append", "quiet", "--autostart")

    def running(self, *names):
        self.keep(*names)
        self.good("start", *names)
        for name in names:
            wait_for(lambda name=name: "hello" in read(self.data, name, "console.log"), "the guest")

    def state(self, name):
        machines = {machine["name"]: machine["state"] for machine in json.loads(self.good("list", "--json"))}
        return machines[name]

    def play_run(self, line):
        self.keep("web")
        if "--state" not in line:
            self.on_terminal(line)
            return
        self.good("start", "web")
        self.good("state", "save", "web", "web.state")
        self.good("kill", "web")
        wait_for(lambda: self.state("web") == "off", "its end")
        # It was in the middle of things: it says no hello, but answers.
        session = self.on_terminal(line, hears=None, types="!", ends=False)
        session.expect("!")
        session.send("q")
        self.assert_ends(session, 0)

    def play_create(self, line):
        features = json.loads(self.good("version", "--features", "--json"))
        if "--os" in line and "osinfo" not in features["helpers"]:
            self.skipTest("this build knows no guests by name")
        name = line.split()[2]
        self.shell(line)
        self.assertEqual(self.state(name), "off")

    def play_import(self, line):
        features = json.loads(self.good("version", "--features", "--json"))
        if "import" not in features["helpers"]:
            self.skipTest("this build imports nothing")
        if ".ova" not in line:
            self.shell(line)
            self.assertEqual(self.state("old"), "off")
            return
        self.keep("web")
        self.shell("anima export web web.ova")
        self.shell(line)
        self.assertEqual(self.state("copy"), "off")
        os.remove(os.path.join(self.work, "web.ova"))

    def play_export(self, line):
        self.keep("web")
        self.shell(line)
        os.remove(os.path.join(self.work, "web.ova"))

    def play_start(self, line):
        self.keep("web", "mail")
        self.shell(line)
        self.assertEqual(self.state("web"), "running")

    def play_edit(self, line):
        self.keep("web")
        before = self.good("show", "web")
        self.shell(line)
        self.assertNotEqual(self.good("show", "web"), before)

    def play_delete(self, line):
        self.keep("web")
        self.shell(line)
        self.assertEqual(self.good("list", "--names"), "")

    def play_console(self, line):
        self.running("web")
        self.on_terminal(line, types="\x1d")
        self.assertEqual(self.state("web"), "running")

    def play_attach(self, line):
        self.running("web")
        self.shell(line)
        self.assertIn("01:00.0", self.good("show", "web", "--running"))

    def play_change(self, line):
        self.keep("web")
        self.good("edit", "web", "nic+=user")
        self.good("start", "web")
        before = self.good("show", "web", "--running")
        self.shell(line)
        if "temporary" not in line:
            self.assertNotEqual(self.good("show", "web", "--running"), before)

    def play_detach(self, line):
        """The guest has no driver for that, but a reset lets go of everything."""
        self.running("web")
        self.good("attach", "web", "disk", "data.img")
        reset = threading.Timer(0.5, lambda: self.good("reset", "web"))
        reset.start()
        self.shell(line)
        reset.join()
        self.assertNotIn("01:00.0", self.good("show", "web", "--running"))

    def play_resume(self, line):
        self.running("web")
        self.good("pause", "web")
        self.shell(line)
        self.assertEqual(self.state("web"), "running")

    def play_pause(self, line):
        self.running("web")
        self.shell(line)
        self.assertEqual(self.state("web"), "paused")

    def play_end(self, line):
        """The guest powers off while the command waits, as one that heard the button does."""
        self.running("web")
        typist = threading.Timer(0.3, lambda: self.on_terminal("anima console web"))
        typist.start()
        self.shell(line)
        typist.join()
        wait_for(lambda: self.state("web") == "off", "its end")

    def play_detach(self, line):
        """The guest has no driver for that, but lets go of all when it begins anew."""
        self.running("web")
        self.good("attach", "web", "disk", "data.img")
        reset = threading.Timer(0.3, lambda: self.good("reset", "web"))
        reset.start()
        self.shell(line)
        reset.join()
        self.assertNotIn("data.img", self.good("show", "web", "--running"))

    def play_change(self, line):
        self.good("create", "web", "--kernel", "vmlinuz", "--memory", "64M", "--engine", "soft", "--disk", "data.img",
                  "--nic", "user")
        self.good("start", "web")
        self.shell(line)
        self.assertEqual(self.state("web"), "running")

    def play_kill(self, line):
        self.running("web")
        self.shell(line)
        wait_for(lambda: self.state("web") == "off", "its end")

    def play_beside_machines(self, line):
        self.running("web", "mail")
        said = self.shell(line)
        self.assertEqual(self.state("web"), "running")
        return said

    def play_alone(self, line):
        self.shell(line)

    def play_with_a_definition(self, line):
        self.keep("web")
        self.assertIn("web" if "list" in line else "restart: never", self.shell(line))

    def play_doctor(self, line):
        """What it finds is the host's business."""
        result = subprocess.run(["sh", "-c", line], cwd=self.work, env=self.env, capture_output=True, text=True,
                                timeout=PATIENCE, check=False)
        self.assertIn(result.returncode, (0, 1), result.stderr)
        self.assertRegex(result.stdout, r"(?m)^(ok|note|problem) ")

    SCENES = {
        "run": play_run, "create": play_create, "import": play_import, "start": play_start, "edit": play_edit,
        "show": play_with_a_definition, "attach": play_attach, "change": play_change, "detach": play_detach, "list": play_beside_machines, "delete": play_delete,
        "query": play_beside_machines, "console": play_console, "events": play_end, "top": play_beside_machines,
        "metrics": play_beside_machines, "pause": play_pause, "resume": play_resume, "reset": play_beside_machines,
        "nmi": play_beside_machines, "stop": play_end, "kill": play_kill, "upgrade": play_beside_machines,
        "state": play_beside_machines, "network": play_alone, "completion": play_alone, "version": play_alone,
        "attach": play_beside_machines, "change": play_change, "export": play_export, "detach": play_detach,
        "help": play_alone, "doctor": play_doctor,
    }

    def play(self, command, line):
        with self.subTest(line):
            self.SCENES[command](self, line)
        self.anima("stop", "--all", "--timeout", "0")
        wait_for(lambda: not json.loads(self.good("list", "--running", "--json")), "the end of all")
        for name in self.good("list", "--names").split():
            self.good("delete", name, "--yes")

    def test_help(self):
        for command in commands():
            examples = examples_of(command)
            self.assertTrue(examples, f"--help of '{command}' has no example")
            for line in examples:
                if command in IN_GUESTS:
                    self.assertIn(f'examples_of(options.anima, "{command}")', read(SOURCE, IN_GUESTS[command]))
                else:
                    self.play(command, line)

    def test_readme(self):
        lines = readme_lines()
        self.assertGreater(len(lines), 3)
        for line in lines:
            self.play(re.search(r"anima ([a-z]+)", line)[1], line)

    def test_the_file_in_the_manual(self):
        text = blocks(read(DOCS, "anima.1.full.scd"))[-1]
        with open(os.path.join(self.work, "vm.yaml"), "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
        self.on_terminal("anima run vm.yaml")

    def test_the_protocol(self):
        request, answer = blocks(read(DOCS, "anima-protocol.7.full.scd"))[-1].splitlines()
        self.running("web")
        with self.connect("web") as connection:
            connection.sendall(request.encode() + b"\n")
            self.assertEqual(json.loads(connection.makefile().readline()), json.loads(answer))


class Agreement(AnimaTest):
    """One table behind all."""

    def setUp(self):
        super().setUp()
        self.manual = read(DOCS, "anima.1.full.scd")

    def part(self, title):
        return re.search(rf"(?m)^# {title}$(.*?)(?=^# |\Z)", self.manual, re.DOTALL)[1]

    def test_the_manual_has_the_examples_of_help(self):
        shown = [line for command in commands() for line in examples_of(command)]
        self.assertEqual(sorted(blocks(self.manual)[:-1]), sorted(shown))

    def test_the_manual_has_the_commands(self):
        titles = re.findall(r"(?m)^(\*[a-z].*)$", self.part("COMMANDS"))
        described = {word.split()[0] for title in titles for word in re.findall(r"\*([a-z][a-z -]*)\*?", title)
                     if title.startswith("*")}
        known = set(commands())
        self.assertEqual(known - described - {"help"}, set())
        synopsis = set(re.findall(r"\b[a-z]+\b", self.part("SYNOPSIS")))
        self.assertEqual(known - synopsis, set())

    def test_the_manual_has_the_options(self):
        known = {flag for command in commands() for flag in flags_of(command)}
        written = set(re.findall(r"--([a-z][a-z-]*[a-z])", self.manual))
        foreign = {"now", "user", "scope"} # systemctl's and systemd-run's
        self.assertEqual(written - known - foreign, set(), "the manual has options that nobody knows")
        self.assertEqual(known - written, set(), "options are missing in the manual")

    def test_completion_has_all(self):
        for shell in "bash", "zsh", "fish":
            script = self.anima("completion", shell).stdout
            for command in commands():
                self.assertRegex(script, rf"\b{command}\b", shell)
                for flag in flags_of(command):
                    self.assertRegex(script, rf"(-l |--){flag}\b", f"{shell}: {command}")

    def test_the_protocol_is_described_once(self):
        self.greeted()
        with self.connect() as connection:
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "protocol.describe"}\n')
            result = json.loads(connection.makefile().readline())["result"]
        manual = read(DOCS, "anima-protocol.7.full.scd")
        for title, kind in ("METHODS", "methods"), ("EVENTS", "events"), ("ERRORS", "errors"):
            part = re.search(rf"(?m)^# {title}$(.*?)(?=^# |\Z)", manual, re.DOTALL)[1]
            # An error's title begins with its code.
            written = set(re.findall(r"(?m)^\*([a-z][a-z.-]*)\*$", part)) or set(re.findall(r"(?m)^\*(-?\d+)\*", part))
            told = {str(entry.get("code", entry["name"])) for entry in result[kind]}
            self.assertEqual(written, told, title)


if __name__ == "__main__":
    unittest.main()
