#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Wrong values through every way into the programs: a file, words of the command line, words of `anima
edit`, JSON on the socket to start a machine, to attach a device to it or to change it. Each is refused by the
same phrase and with status 2, and neither what is kept nor what runs is any different behind it. The values come
from the schema (tests/unit/wrong.c)."""
import hashlib
import json
import os
import re
import socket
import subprocess
import unittest

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for

VMM = os.path.join(os.path.dirname(ANIMA), "..", "vmm", "anima-vmm")
INVALID_PARAMS = -32602
EACH = 4 # values of an option
EACH_OF_RUNNING = 100 # that are quick to ask for
DEVICES = {"disk": ("disk0", "file"), "nic": ("nic0", "network")} # how the table's entries begin


def wrong_values(each=EACH):
    """Some of each option, of different phrases; an object each: key, text, told, yaml, json."""
    lines = subprocess.run([os.environ["ANIMA_WRONG"], "--list"], capture_output=True, check=True).stdout
    chosen = {}
    for line in lines.splitlines():
        value = json.loads(line)
        phrase = re.sub(r"'.*?'|\d+", "", value["told"])
        chosen.setdefault(value["key"], {}).setdefault(phrase, value)
    return [value for of_key in chosen.values() for value in list(of_key.values())[:each]]


def tree(folder):
    """A hash of all names, modes and contents."""
    digest = hashlib.sha256()
    for path, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name in ("log", "console.log"): # what it says, not what it is
                continue
            whole = os.path.join(path, name)
            digest.update(f"{whole} {os.stat(whole).st_mode}".encode())
            with open(whole, "rb") as stream:
                digest.update(stream.read())
        digest.update(f"{path} {folders} {os.stat(path).st_mode}".encode())
    return digest.hexdigest()


def start_by_socket(definition, env):
    """What a monitor of its own answers to "start"."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with subprocess.Popen([VMM, "monitor"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, pass_fds=[3],
                              preexec_fn=lambda: os.dup2(theirs.fileno(), 3)) as monitor:
            theirs.close()
            ours.settimeout(PATIENCE)
            request = {"jsonrpc": "2.0", "id": 1, "method": "start", "params": {"definition": definition}}
            ours.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(ours.makefile().readline())
            monitor.terminate()
    return answer


def calls(value):
    """Those that bring the value to a machine that runs: methods and parameters."""
    key, given = value["key"], value["json"]
    if not given:
        return
    yield "machine.change", {"options": given}
    name, first = DEVICES.get(key, (None, None))
    if not name or not isinstance(given[key], str):
        return
    begin, comma, member = given[key].partition(",")
    at, equals, text = member.partition("=")
    entry = {first: begin} if not comma else {at: text.replace(",,", ",")}
    if comma and not equals or f",{at}=" in text: # only text has members without a value, or twice
        return
    if text.isdecimal() and f": {text} is " in value["told"]: # a number that is read
        if int(text) >= 1 << 63:
            return
        entry = {at: int(text)}
    yield "device.attach", {"kind": key, "options": {first: begin, **entry}}
    yield "device.change", {"id": name, "options": entry}


class Wrong(AnimaTest):
    def setUp(self):
        super().setUp()
        os.mkdir(self.data)
        disk = os.path.join(self.folder, "disk")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        self.anima("create", "web", "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft",
                   "--disk", disk, "--nic", "none")
        self.anima("start", "web")
        wait_for(lambda: os.path.exists(os.path.join(self.data, "web", "console.log")), "the start")
        self.before = self.situation()

    def tearDown(self):
        self.anima("kill", "web")
        super().tearDown()

    def situation(self):
        """All that a wrong value might change."""
        running = json.loads(self.anima("show", "--running", "web", "--json").stdout)
        status = self.query("web")
        return tree(self.data), running, status["state"], status["pid"], os.listdir(self.runtime)

    def refused(self, *words):
        """The one line that it says, with status 2."""
        result = self.anima(*words)
        self.assertEqual((result.returncode, result.stdout), (2, ""), words)
        self.assertRegex(result.stderr, r"\Aanima: [^\n]+\n\Z", words)
        return result.stderr[len("anima: "):-1]

    def test_each_way_refuses_alike(self):
        path = os.path.join(self.folder, "vm.yaml")
        values = wrong_values()
        ways = {"word": 0, "edit": 0, "file": 0, "socket": 0}
        for value in values:
            key, text, told = value["key"], value["text"], value["told"]
            word = self.refused("run", "--kernel", PAYLOAD, f"--{key}={text}")
            # On the command line an option is named as it is written there.
            self.assertIn(word, ("--" + told, told, re.sub(r"'([^']*)'", r"--\1", told),
                                 f"unknown option --{key}; 'anima help run' lists the options"))
            ways["word"] += 1
            if text and key != "name":
                self.assertEqual(self.refused("edit", "web", f"{key}={text}"), told)
                ways["edit"] += 1
            if value["yaml"]:
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(value["yaml"])
                said = self.refused("create", "new", path)
                self.assertRegex(said, rf"^{re.escape(path)}:\d+:\d+: ")
                self.assertEqual(said.split(": ", 1)[1], told)
                ways["file"] += 1
            if value["json"]:
                error = start_by_socket(value["json"], self.env)["error"]
                self.assertEqual((error["code"], error["message"]), (INVALID_PARAMS, told))
                ways["socket"] += 1
        self.assertEqual(self.situation(), self.before)
        self.assertGreater(min(ways.values()), 50, ways)

    def test_what_runs_refuses_alike(self):
        """Devices that shall come, devices and options that shall be others."""
        counts = {"device.attach": 0, "device.change": 0, "machine.change": 0}
        with self.connect("web") as connection:
            lines = connection.makefile()
            for value in wrong_values(EACH_OF_RUNNING):
                for method, params in calls(value):
                    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                    connection.sendall(json.dumps(request).encode() + b"\n")
                    error = json.loads(lines.readline())["error"]
                    phrase = value["told"].split(": ", method == "device.change")[-1]
                    self.assertEqual(error["code"], INVALID_PARAMS, (method, params, error))
                    # In JSON a number has no quotes, so what has them is none.
                    typed = re.sub(r"(expected (?:a whole number|yes or no), not) '.*'$", r"\1 a text", phrase)
                    self.assertTrue(error["message"].endswith((phrase, typed)), (method, params, error, value["told"]))
                    self.assertNotIn("\n", error["message"])
                    counts[method] += 1
        self.assertEqual(self.situation(), self.before)
        self.assertGreater(min(counts.values()), 40, counts)

    def test_a_good_word_beside_a_wrong_one(self):
        self.refused("edit", "web", "memory=128M", "append=quiet", "cpus=none")
        self.refused("create", "new", "--kernel", PAYLOAD, "--memory", "64M", "--cpus", "none")
        with self.connect("web") as connection:
            connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"stop","params":{"timeout":5,"what":1}}\n')
            self.assertEqual(json.loads(connection.makefile().readline())["error"]["code"], INVALID_PARAMS)
        self.assertEqual(self.situation(), self.before)

    def test_without_the_right(self):
        program, _, him = self.prepare_another_user()
        foreign = os.path.join(self.folder, "data")
        os.chmod(foreign, 0o755)
        os.chmod(os.path.join(foreign, "web"), 0o700)
        before = tree(foreign)
        for words in (["show", "web"], ["edit", "web", "memory=1G"], ["delete", "web", "--yes"],
                      ["start", "web"], ["create", "new", "--kernel", "/k"], ["run", "web"]):
            result = self.anima(*words, program=program, **him)
            self.assertEqual(result.returncode, 1, words)
            self.assertRegex(result.stderr, r"\Aanima: [^\n]*Permission denied\n\Z", words)
        self.assertEqual(tree(foreign), before)
        self.env["ANIMA_RUNTIME_DIR"] = self.runtime = os.path.join(self.folder, "run")


if __name__ == "__main__":
    unittest.main()
