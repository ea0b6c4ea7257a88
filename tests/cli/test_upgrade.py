#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""anima upgrade: another vmm takes the place of the one that runs, and what happens when it cannot."""
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import unittest

from anima_test import ANIMA, PATIENCE, AnimaTest, wait_for

LIBEXEC = os.path.join(os.path.dirname(ANIMA), "../vmm")


class Upgrade(AnimaTest):
    def installed(self, program=os.path.join(LIBEXEC, "anima-vmm")):
        """A place of its own for anima-vmm, which a test may replace."""
        folder = os.path.join(self.folder, "libexec")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "anima-vmm")
        shutil.copy(program, path)
        self.env["ANIMA_LIBEXEC"] = folder
        return path

    def replace(self, path, script):
        """Another program in the place of `path`, as a package manager puts it there."""
        with open(path + ".new", "w", encoding="utf-8") as stream:
            stream.write(script)
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)

    def upgraded(self, *words):
        result = self.anima("upgrade", "test", *words)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def assert_not_upgraded(self, message, session, *words):
        """The upgrade fails with one line, and the same vmm goes on."""
        before = self.query()
        result = self.anima("upgrade", "test", *words)
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn(message, result.stderr)
        after = self.query()
        self.assertEqual((before["pid"], before["state"]), (after["pid"], after["state"]))
        session.send("=")
        session.expect("=")

    def test_the_terminal_goes_on(self):
        session = self.greeted("--device", "debugcon,virtio-rng")
        pids = [self.query()["pid"]]
        uptime = self.query()["uptime_ms"]
        for i in range(5):
            self.assertRegex(self.upgraded(),
                             r"^test: upgraded in [0-9.]+ ms of downtime \(engine soft\)\n$")
            session.send(f"still {i}")
            session.expect(f"still {i}")
            pids.append(self.query()["pid"])
        self.assertEqual(len(set(pids)), 6)
        self.assertGreaterEqual(self.query()["uptime_ms"], uptime)
        for pid in pids[:-1]:
            self.assertFalse(os.path.exists(f"/proc/{pid}") and
                             "zombie" not in open(f"/proc/{pid}/status", encoding="utf-8").read())
        session.send("q")
        self.assert_ends(session, 0)

    def test_time_goes_on(self):
        self.greeted()
        before, then = self.query()["clock_ns"], time.monotonic_ns()
        for _ in range(5):
            self.upgraded()
        after, now = self.query()["clock_ns"], time.monotonic_ns()
        # The downtime counts: machine time is as far as the host's, give or take the two queries.
        self.assertLess(abs((after - before) - (now - then)), 100e6)

    def test_events_and_clients(self):
        self.greeted()
        connection = self.connect()
        lines = connection.makefile("r", encoding="utf-8")

        def call(method, **params):
            connection.sendall(json.dumps({"jsonrpc": "2.0", "id": method, "method": method,
                                           "params": params}).encode() + b"\n")
            while (message := json.loads(lines.readline())).get("id") != method:
                if message["method"] == "event":
                    events.append(message["params"]["type"])
            return message

        events = []
        call("events.subscribe")
        result = call("upgrade")["result"]
        self.assertEqual((result["engine"], result["engine_before"]), ("soft", "soft"))
        self.assertGreater(result["downtime_ns"], 0)
        self.assertEqual(call("query")["result"]["state"], "running")
        self.assertEqual([event for event in events if not event.startswith("job-")], ["upgraded"])
        self.assertEqual((events[0], events[-1]), ("job-started", "upgraded"))
        self.assertIn("job-progress", events)
        self.assertIn("expected one of kvm, soft", call("upgrade", engine="auto")["error"]["message"])
        for step in "describe", "pause", "cancel", "load", "go":
            self.assertIn("error", call("handover." + step))
        lines.close()
        connection.close()

    def test_calls_meanwhile_are_answered(self):
        self.greeted()
        connection = self.connect()
        lines = connection.makefile("r", encoding="utf-8")
        calls = [{"jsonrpc": "2.0", "id": i, "method": "upgrade" if i % 5 == 0 else "query"}
                 for i in range(15)]
        answered = {}
        for call in calls:
            connection.sendall(json.dumps(call).encode() + b"\n")
            time.sleep(0.002)
        while len(answered) < len(calls):
            message = json.loads(lines.readline())
            if "method" not in message:
                answered[message["id"]] = message
        for call in calls:
            answer = answered[call["id"]]
            if call["method"] == "query":
                self.assertEqual(answer["result"]["state"], "running", answer)
            else:
                self.assertTrue("result" in answer or "under way" in answer["error"]["message"])
        self.assertIn("result", answered[0])
        lines.close()
        connection.close()

    def test_a_paused_machine_stays_paused(self):
        session = self.greeted()
        self.anima("pause", "test")
        before = self.query()["clock_ns"]
        self.assertEqual(self.upgraded(), "test: upgraded while paused (engine soft)\n")
        after = self.query()
        self.assertEqual((after["state"], after["clock_ns"]), ("paused", before))
        self.anima("resume", "test")
        session.send("!")
        session.expect("!")

    def test_a_client_of_the_serial_socket_stays_connected(self):
        path = os.path.join(self.folder, "serial")
        self.start("--serial", "socket=" + path)
        wait_for(lambda: os.path.exists(path), "the socket")
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.settimeout(10)
        client.sendall(b"1")
        while client.recv(1) != b"1":
            pass  # the greeting, of which a client that came late has missed some
        for i in b"2", b"3":
            self.upgraded()
            client.sendall(i)
            self.assertEqual(client.recv(1), i)
        client.close()
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.settimeout(10)
        client.sendall(b"4")
        self.assertEqual(client.recv(1), b"4")
        self.upgraded()
        client.sendall(b"5")
        self.assertEqual(client.recv(1), b"5")
        client.close()
        self.anima("kill", "test")

    def test_a_pty_stays_open(self):
        self.start("--serial", "pty")
        wait_for(lambda: self.anima("query", "test").returncode == 0, "the machine")
        (path,) = self.query()["ptys"].values()
        line = os.open(path, os.O_RDWR | os.O_NOCTTY)
        for byte in b"12345":
            os.write(line, bytes([byte]))
            while os.read(line, 1)[0] != byte:
                pass  # the greeting
            self.upgraded()
        self.assertEqual(list(self.query()["ptys"].values()), [path])
        os.close(line)
        self.anima("kill", "test")

    def test_all_machines(self):
        first = self.greeted(name="first")
        second = self.greeted(name="second")
        result = self.anima("upgrade", "--all")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(sorted(line.split(":")[0] for line in result.stdout.splitlines()),
                         ["first", "second"])
        for session in first, second:
            session.send("!")
            session.expect("!")
            session.send("q")
            self.assert_ends(session, 0)

    def test_wrong_words(self):
        self.assert_refused(2, "usage: anima upgrade", "upgrade")
        self.assert_refused(2, "usage: anima upgrade", "upgrade", "test", "--all")
        self.assert_refused(2, "expected kvm or soft", "upgrade", "test", "--engine", "fast")
        self.assert_refused(1, "no machine called 'test'", "upgrade", "test")

    def test_the_installed_program_is_taken(self):
        path = self.installed()
        session = self.greeted()
        # The file that runs is gone; what lies in its place now is what the user installed.
        self.replace(path, f"#!/bin/sh\ntouch {self.folder}/taken\nexec {LIBEXEC}/anima-vmm \"$@\"\n")
        self.upgraded()
        self.assertTrue(os.path.exists(os.path.join(self.folder, "taken")))
        session.send("!")
        session.expect("!")

    def test_no_program_is_there(self):
        path = self.installed()
        session = self.greeted()
        os.unlink(path)
        self.assert_not_upgraded(f"{path}: No such file or directory", session)

    def test_all_machines_but_one(self):
        """Each is named, with what came of it."""
        path = self.installed()
        self.greeted(name="stuck")
        del self.env["ANIMA_LIBEXEC"]
        self.greeted(name="free")
        os.unlink(path)
        result = self.anima("upgrade", "--all")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"^free: upgraded in [0-9.]+ ms of downtime \(engine soft\)\n$")
        self.assertRegex(result.stderr, r"^anima: stuck: upgrade: [^\n]*: No such file or directory; [^\n]*\n$")
        result = self.anima("upgrade", "--all", "--json")
        told = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([(one["name"], one["engine"]) for one in told], [("free", "soft")])

    def test_the_new_vmm_dies(self):
        path = self.installed()
        session = self.greeted()
        self.replace(path, "#!/bin/sh\necho 'not for this host' >&2\nexit 9\n")
        self.assert_not_upgraded("of the new vmm: the vmm ended with status 9; it last said: not for "
                                 "this host; the machine goes on as it was", session)
        self.replace(path, "#!/usr/bin/python3\nimport ctypes\nctypes.string_at(0)\n")
        self.assert_not_upgraded("signal 11", session)

    def test_the_new_vmm_dies_with_the_state_in_its_hands(self):
        """In place of the new vmm, a program that answers up to the load and then falls silent."""
        path = self.installed()
        session = self.greeted()
        for last, answer, message in (
                ("vmm.start", False, "signal 11"),
                ("handover.load", False, "signal 11"),
                ("vmm.start", True, "no such luck"),
                ("handover.load", True, "no such luck")):
            self.replace(path, f"""#!/usr/bin/python3
import ctypes, json, socket
monitor = socket.socket(fileno=3)
for line in monitor.makefile():
    call = json.loads(line)
    reply = {{"jsonrpc": "2.0", "id": call["id"]}}
    if call["method"] == "{last}":
        if not {answer}:
            ctypes.string_at(0)
        reply["error"] = {{"code": -32000, "message": "no such luck"}}
    else:
        reply["result"] = {{}}
    monitor.sendall(json.dumps(reply).encode() + b"\\n")
""")
            clock, then = self.query()["clock_ns"], time.monotonic_ns()
            self.assert_not_upgraded(message, session)
            passed = (self.query()["clock_ns"] - clock) - (time.monotonic_ns() - then)
            self.assertLess(abs(passed), 100e6)

    def test_the_old_vmm_dies_in_the_middle(self):
        path = self.installed()
        session = self.greeted()
        pid = self.query()["pid"]
        begun = os.path.join(self.folder, "begun")
        self.replace(path, f"#!/bin/sh\ntouch {begun}\nexec sleep 1000\n")
        with subprocess.Popen([ANIMA, "upgrade", "test"], env=self.env, text=True,
                              stderr=subprocess.PIPE) as process:
            wait_for(lambda: os.path.exists(begun), "the new vmm")
            os.kill(pid, signal.SIGKILL)
            _, words = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 1)
        self.assertIn("the vmm was killed by signal 9", words)
        session.expect("anima: the vmm was killed by signal 9")
        self.assert_ends(session, 1)

    def test_the_machine_is_killed_in_the_middle(self):
        path = self.installed()
        session = self.greeted()
        fresh = os.path.join(self.folder, "pid")
        # In its namespace it is process 1, to us another.
        self.replace(path, f"#!/bin/sh\nread pid rest </proc/self/stat\necho $pid >{fresh}\n"
                           f"{ANIMA} kill test\nexec sleep 1000\n")
        result = self.anima("upgrade", "test")
        self.assertEqual(result.returncode, 1)
        self.assertIn("the machine was killed", result.stderr)
        self.assert_ends(session, 0)
        with open(fresh, encoding="ascii") as stream, self.assertRaises(ProcessLookupError):
            os.kill(int(stream.read()), 0)

    def test_the_machine_is_killed_at_the_switch(self):
        """The old vmm is dying of it when the new one says that it has the machine."""
        path = self.installed()
        session = self.greeted()
        self.replace(path, f"""#!/usr/bin/python3
import json, socket
monitor = socket.socket(fileno=3)
client = socket.socket(socket.AF_UNIX)
client.connect("{os.path.join(self.runtime, "test", "control")}")
for line in monitor.makefile():
    call = json.loads(line)
    if call["method"] == "handover.load":
        client.sendall(b'{{"jsonrpc": "2.0", "id": 1, "method": "kill"}}\\n')
        client.recv(1)
    reply = {{"jsonrpc": "2.0", "id": call["id"], "result": {{}}}}
    monitor.sendall(json.dumps(reply).encode() + b"\\n")
""")
        result = self.anima("upgrade", "test")
        self.assertEqual(result.returncode, 1)
        self.assertIn("the machine was killed", result.stderr)
        self.assert_ends(session, 0)

    def test_a_machine_that_waits_for_its_helper(self):
        """It is not started by an upgrade that fails."""
        nat = os.path.join(os.path.dirname(self.installed()), "anima-nat")
        self.replace(nat, "#!/bin/sh\nexec sleep 1000\n")
        session = self.start("--nic", "user")
        path = os.path.join(self.runtime, "test", "control")
        wait_for(lambda: os.path.exists(path), "the socket")
        connection = wait_for(self.connect, "the connection")
        connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "upgrade"}\n')
        lines = connection.makefile("r", encoding="utf-8")
        self.assertIn('"progress"', lines.readline())
        self.assertIn("not started", lines.readline())
        lines.close()
        connection.sendall(b'{"jsonrpc": "2.0", "id": 2, "method": "query"}\n')
        connection.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            connection.recv(1)
        connection.close()
        self.anima("kill", "test")
        self.assert_ends(session, 1)

    def test_a_debugger_is_in_the_way(self):
        path = os.path.join(self.folder, "gdb")
        session = self.greeted("--gdb", path)
        debugger = socket.socket(socket.AF_UNIX)
        debugger.connect(path)
        wait_for(lambda: self.query()["state"] == "paused", "the debugger's stop")
        result = self.anima("upgrade", "test")
        self.assertEqual(result.returncode, 1)
        self.assertIn("a debugger is attached; let it detach first", result.stderr)
        debugger.close()
        wait_for(lambda: self.query()["state"] == "running", "the debugger's end")
        self.upgraded()
        session.send("!")
        session.expect("!")
        # The new vmm awaits debuggers at the same door.
        debugger = socket.socket(socket.AF_UNIX)
        debugger.connect(path)
        wait_for(lambda: self.query()["state"] == "paused", "the debugger's stop")
        debugger.close()

    def test_a_debugger_comes_in_the_middle(self):
        """It waits until it is clear which vmm has the machine, here the old one."""
        door, ready = (os.path.join(self.folder, name) for name in ("gdb", "ready"))
        path = self.installed()
        self.greeted("--gdb", door)
        self.replace(path, f"""#!/usr/bin/python3
import json, os, socket, time
monitor = socket.socket(fileno=3)
for line in monitor.makefile():
    call = json.loads(line)
    reply = {{"jsonrpc": "2.0", "id": call["id"], "result": {{}}}}
    if call["method"] == "handover.load":
        os.mkdir("{ready}")
        while os.path.exists("{ready}"):
            time.sleep(0.02)
        reply["error"] = {{"code": -32000, "message": "no such luck"}}
        del reply["result"]
    monitor.sendall(json.dumps(reply).encode() + b"\\n")
""")
        with subprocess.Popen([ANIMA, "upgrade", "test"], env=self.env,
                              stderr=subprocess.PIPE) as upgrade:
            wait_for(lambda: os.path.exists(ready), "the load")
            debugger = socket.socket(socket.AF_UNIX)
            debugger.connect(door)
            time.sleep(0.1)
            os.rmdir(ready)
            self.assertIn(b"no such luck", upgrade.stderr.read())
        wait_for(lambda: self.query()["state"] == "paused", "the debugger's stop")
        debugger.close()
        wait_for(lambda: self.query()["state"] == "running", "the debugger's end")

    def test_between_the_engines(self):
        if not (os.path.exists("/dev/kvm") and os.access("/dev/kvm", os.R_OK | os.W_OK)):
            self.skipTest("this host has no /dev/kvm")
        session = self.start("--engine", "kvm")
        session.expect(["hello", "anima: "])
        if session.after != "hello":
            self.assertEqual(session.wait(), 1)
            self.skipTest("engine kvm does not run on this host")
        before = "kvm"
        for engine in "soft", "kvm", "kvm", "soft", "soft", "kvm":
            change = f"{before} to {engine}" if engine != before else engine
            self.assertIn(f"(engine {change})", self.upgraded("--engine", engine))
            self.assertEqual(self.query()["engine"], engine)
            session.send("!")
            session.expect("!")
            before = engine

    def test_no_kvm_is_there(self):
        if os.path.exists("/dev/kvm") and os.access("/dev/kvm", os.R_OK | os.W_OK):
            self.skipTest("this host has /dev/kvm")
        session = self.greeted()
        self.assert_not_upgraded("/dev/kvm", session, "--engine", "kvm")


if __name__ == "__main__":
    unittest.main()
