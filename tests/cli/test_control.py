#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The control socket: every method, numbered events, garbage, and who may have which name."""
import array
import json
import os
import signal
import socket
import stat
import subprocess
import time
import unittest

import jsonschema
import pexpect

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for


class Client:
    """Lines over a control socket. With `protocol`, what "protocol.describe" answers, all results
    and events are held to it."""

    def __init__(self, connection, protocol=None):
        self.connection = connection
        self.lines = connection.makefile("r", encoding="utf-8")
        self.last_id = 0
        protocol = protocol or {"methods": [], "events": []}
        self.results = {method["name"]: method["result"] for method in protocol["methods"]}
        self.events = {event["name"]: event["params"] for event in protocol["events"]}

    def receive(self):
        line = self.lines.readline()
        return json.loads(line) if line else None

    def send_line(self, line):
        self.connection.sendall(line.encode() if isinstance(line, str) else line)

    def call(self, method, **params):
        """The response; notifications before it are passed over."""
        self.last_id += 1
        self.send_line(json.dumps({"jsonrpc": "2.0", "id": self.last_id, "method": method,
                                   "params": params}) + "\n")
        while True:
            message = self.receive()
            if message is None:
                return None
            if message.get("method") == "event":
                self.check_event(message["params"])
            elif message.get("id") == self.last_id:
                if "result" in message and self.results:
                    jsonschema.validate(message["result"], self.results[method])
                return message

    def check_event(self, event):
        if self.events:
            own = {key: value for key, value in event.items() if key not in ("seq", "type", "time")}
            jsonschema.validate(own, self.events[event["type"]])

    def response(self):
        """The next response; notifications before it are passed over."""
        while "method" in (message := self.receive()):
            continue
        return message

    def close(self):
        self.lines.close()
        self.connection.close()

    def event(self, kind):
        """The next event of this kind."""
        while True:
            message = self.receive()
            if message.get("method") != "event":
                continue
            self.check_event(message["params"])
            if message["params"]["type"] == kind:
                return message["params"]


class Control(AnimaTest):
    def setUp(self):
        super().setUp()
        self.session = self.greeted()
        self.client = Client(self.connect())
        self.protocol = self.client.call("protocol.describe")["result"]
        self.client = Client(self.client.connection, self.protocol)

    def tearDown(self):
        self.client.connection.close()
        self.client.lines.close()
        super().tearDown()

    def assert_error(self, response, code, text=""):
        self.assertEqual(response["error"]["code"], code, response)
        self.assertIn(text, response["error"]["message"])

    def test_the_protocol_describes_itself(self):
        for method in self.protocol["methods"]:
            for schema in method["params"], method["result"]:
                jsonschema.Draft202012Validator.check_schema(schema)
            self.assertTrue(method["description"], method)
        names = [method["name"] for method in self.protocol["methods"]]
        self.assertIn("query", names)
        self.assertFalse([name for name in names if name.startswith(("vmm.", "handover."))])
        self.assertEqual(len(names), len(set(names)))
        # Each is there: it refuses a parameter that it does not have, and nothing before that.
        for method in self.protocol["methods"]:
            if method["access"] != "own" and "descriptors" not in method:
                response = self.client.call(method["name"], frobnicate=1)
                self.assert_error(response, -32602, "frobnicate")
                self.assertEqual(response["error"]["data"], {"param": "frobnicate"})

    def test_parameters_are_held_to_their_schemas(self):
        """A validator of others and the machine refuse the same."""
        values = [None, True, False, 0, -1, 1, 86400, 86401, 1 << 62, 1.5, "", "soft", "kvm", "x",
                  [], [1], {}, {"a": 1}]
        for method in self.protocol["methods"]:
            name = method["name"]
            if "descriptors" in method or method["access"] == "own" or name in ("kill", "upgrade", "stop"):
                continue
            for param in list(method["params"]["properties"]) + ["none"]:
                for value in values:
                    response = self.client.call(name, **{param: value})
                    valid = jsonschema.Draft202012Validator(method["params"]).is_valid(
                        {param: value})
                    refused = response.get("error", {}).get("code") == -32602
                    # What options a machine has is no part of the protocol.
                    beyond = any(part in str(response) for part in ("the last event", "unknown option"))
                    self.assertEqual(valid, not refused or beyond, (name, param, value, response))
        for value in values:
            if value not in ("soft", "kvm"):
                self.assert_error(self.client.call("upgrade", engine=value), -32602, "engine")
        self.assertEqual(self.query()["state"], "running")

    def test_query(self):
        status = self.client.call("query")["result"]
        self.assertEqual(status["state"], "running")
        self.assertEqual((status["name"], status["machine"]), ("test", "anima-1"))
        self.assertEqual((status["engine"], status["cpus"]), ("soft", 1))
        self.assertEqual(status["memory"], 64 << 20)
        self.assertGreaterEqual(status["uptime_ms"], 0)
        for key in "pid", "monitor_pid":
            self.assertTrue(os.path.exists(f"/proc/{status[key]}"))
        self.assertTrue(status["sandbox"]["seccomp"])

    def test_pause_and_resume(self):
        self.assertIn("result", self.client.call("pause"))
        self.assertEqual(self.query()["state"], "paused")
        self.assertIn("result", self.client.call("pause"))
        before = self.query()["clock_ns"]
        self.assertEqual(self.query()["clock_ns"], before)
        self.session.send("!")
        self.assertIn("result", self.client.call("resume"))
        self.session.expect("!")
        self.assertEqual(self.query()["state"], "running")

    def test_commands(self):
        for command in "pause", "resume", "nmi", "stop":
            result = self.anima(command, "test")
            self.assertEqual((result.returncode, result.stderr), (0, ""), command)
        self.assertIn("test", self.anima("list").stdout)
        self.assertIn("state: running", self.anima("query", "test").stdout)

    def test_reset(self):
        self.assertIn("result", self.client.call("reset"))
        self.session.expect("hello")

    def test_kill(self):
        self.assertIn("result", self.client.call("kill"))
        self.assert_ends(self.session, 0)

    def test_stop_with_a_timeout(self):
        # The payload knows no power button.
        result = self.anima("stop", "test", "--timeout", "1")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assert_ends(self.session, 0)

    def test_events_are_numbered_and_replayed(self):
        first = self.client.call("events.subscribe")["result"]["seq"]
        self.client.call("pause")
        self.client.call("resume")
        other = Client(self.connect(), self.protocol)
        other.send_line(json.dumps({"jsonrpc": "2.0", "id": "x", "method": "events.subscribe",
                                    "params": {"since": first}}) + "\n")
        self.assertEqual([other.event(kind)["seq"] for kind in ("paused", "running")],
                         [first + 1, first + 2])
        self.session.send("q")
        ended = other.event("ended")
        self.assertEqual((ended["cause"], ended["status"]), ("power-off", 0))
        self.assertIsNone(other.receive())
        other.connection.close()

    def start_save(self):
        """A save to a pipe, whose reading end is returned, with the number of its job."""
        reader, writer = os.pipe()
        self.client.connection.sendmsg(
            [b'{"jsonrpc": "2.0", "id": "save", "method": "state.save"}\n'],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
        os.close(writer)
        told = self.client.receive()
        self.assertEqual((told["method"], told["params"]["id"], told["params"]["method"]),
                         ("progress", "save", "state.save"))
        return reader, told["params"]["job"]

    def test_work_that_lasts_is_told_of(self):
        other = Client(self.connect(), self.protocol)
        other.call("events.subscribe")
        reader, job = self.start_save()
        self.assertEqual(other.event("job-started")["job"], job)
        self.assertEqual([one["job"] for one in other.call("job.list")["result"]["jobs"]], [job])
        with open(reader, "rb") as stream:
            self.assertTrue(stream.read())
        progress = other.event("job-progress")
        self.assertGreater(progress["total"], 0)
        told = []
        while (message := self.client.receive()).get("method") == "progress":
            told.append((message["params"]["done"], message["params"]["total"]))
        self.assertEqual(message["id"], "save")
        self.assertIn("result", message)
        self.assertEqual(told, sorted(told))
        self.assertEqual(told[-1][0], told[-1][1])
        self.assertEqual(other.event("job-ended")["outcome"], "done")
        self.assertEqual(other.call("job.list")["result"]["jobs"], [])
        other.close()

    def test_a_save_is_cancelled(self):
        """Though it waits for a reader; the machine goes on."""
        other = Client(self.connect(), self.protocol)
        other.call("events.subscribe")
        reader, job = self.start_save()
        self.assert_error(other.call("job.cancel", job=job + 1), -32002, "none of that number")
        wait_for(lambda: other.call("query")["result"]["state"] == "paused", "the pause")
        self.assertIn("result", other.call("job.cancel", job=job))
        message = self.client.response()
        self.assertEqual(message["id"], "save")
        self.assert_error(message, -32003, "cancelled")
        self.assertEqual(other.event("job-ended")["outcome"], "cancelled")
        self.assert_error(other.call("job.cancel", job=job), -32002, "none of that number")
        self.assertEqual(self.query()["state"], "running")
        self.session.send("!")
        self.session.expect("!")
        os.close(reader)
        other.close()

    def test_an_upgrade_is_cancelled(self):
        job = None
        self.client.send_line('{"jsonrpc": "2.0", "id": "u", "method": "upgrade"}\n')
        job = self.client.receive()["params"]["job"]
        other = Client(self.connect(), self.protocol)
        cancelled = "result" in other.call("job.cancel", job=job)
        message = self.client.response()
        # It may be too late; both ends are good ones.
        if cancelled:
            self.assert_error(message, -32003, "the machine goes on as it was")
        else:
            self.assertIn("result", message)
        self.session.send("!")
        self.session.expect("!")
        self.assertIn("result", self.client.call("upgrade"))
        other.close()

    def test_events_that_are_gone(self):
        """Who was away for too long hears how much is missing; who asks for the future is refused."""
        for _ in range(600):
            self.client.call("pause")
            self.client.call("resume")
        answer = self.client.call("events.subscribe", since=0)["result"]
        self.assertGreater(answer["missed"], 100)
        missed = self.client.event("missed")
        self.assertEqual((missed["first"], missed["seq"]), (1, answer["missed"]))
        last = missed["seq"]
        while last < answer["seq"]:
            message = self.client.receive()["params"]
            self.assertEqual(message["seq"], last + 1)
            last = message["seq"]
        self.assert_error(self.client.call("events.subscribe", since=last + 1), -32602,
                          f"the last event has number {last}")

    def test_state_save_and_dump(self):
        path = os.path.join(self.folder, "state")
        result = self.anima("state", "save", "test", path)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(self.query()["state"], "running")
        text = self.anima("state", "dump", path)
        self.assertEqual((text.returncode, text.stderr), (0, ""))
        self.assertIn("serial0", text.stdout)
        self.assertIn("anima-1", text.stdout)
        # The CPU model by its version, not as "default".
        self.assertRegex(self.query()["cpu"], r"-\d+$")
        self.assertIn(f'"cpu":"{self.query()["cpu"]}"', text.stdout)
        with open(path, "r+b") as stream:
            stream.truncate(os.path.getsize(path) // 2)
        self.assertEqual(self.anima("state", "dump", path).returncode, 1)
        self.assertEqual(self.anima("state", "save", "test", path).returncode, 1)

    def test_a_descriptor_goes_with_its_line(self):
        """Also when the monitor reads it together with the line before."""
        reader, writer = os.pipe()
        monitor = self.query()["monitor_pid"]
        os.kill(monitor, signal.SIGSTOP)
        self.client.send_line('{"jsonrpc": "2.0", "id": 1, "method": "query"}\n')
        self.client.connection.sendmsg(
            [b'{"jsonrpc": "2.0", "id": 2, "method": "state.save"}\n'],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
        os.close(writer)
        os.kill(monitor, signal.SIGCONT)
        self.assertIn("result", self.client.response())
        with open(reader, "rb") as stream:
            self.assertTrue(stream.read())
        answer = self.client.response()
        self.assertIn("result", answer)
        self.assertEqual(answer["id"], 2)

    def test_a_save_that_nobody_reads(self):
        """The machine stands still meanwhile, but answers; it goes on when the save has failed."""
        reader, writer = os.pipe()
        self.client.connection.sendmsg(
            [b'{"jsonrpc": "2.0", "id": "save", "method": "state.save"}\n'],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
        os.close(writer)
        other = Client(self.connect())
        wait_for(lambda: other.call("query")["result"]["state"] == "paused", "the pause")
        for method in "resume", "pause", "reset", "upgrade":
            self.assertIn("being saved", other.call(method)["error"]["message"], method)
        self.assertIn("result", other.call("query"))
        os.close(reader)
        answer = self.client.response()
        self.assertEqual(answer["id"], "save")
        self.assert_error(answer, -32000, "Broken pipe")
        self.assertEqual(self.query()["state"], "running")
        self.session.send("!")
        self.session.expect("!")
        # And one that is killed in the middle.
        reader, writer = os.pipe()
        self.client.connection.sendmsg(
            [b'{"jsonrpc": "2.0", "id": "save", "method": "state.save"}\n'],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
        wait_for(lambda: other.call("query")["result"]["state"] == "paused", "the pause")
        self.assertIn("result", other.call("kill"))
        self.assert_ends(self.session, 0)
        for fd in reader, writer:
            os.close(fd)
        other.lines.close()
        other.connection.close()

    def test_a_save_that_the_user_gives_up(self):
        """At a terminal a bar is drawn; Ctrl-C cancels, and leaves no file."""
        fifo = os.path.join(self.folder, "state")
        save = pexpect.spawn(ANIMA, ["state", "save", "test", fifo], env=self.env, timeout=PATIENCE,
                             encoding="utf-8")
        save.expect(pexpect.EOF)
        self.assertNotIn("#", save.before.rstrip().split("\r")[-1])
        save.close()
        self.assertEqual(save.exitstatus, 0)
        os.unlink(fifo)
        monitor = self.query()["monitor_pid"]
        os.kill(monitor, signal.SIGSTOP)
        with subprocess.Popen([ANIMA, "state", "save", "test", fifo], env=self.env, text=True,
                              stderr=subprocess.PIPE) as process:
            wait_for(lambda: os.path.exists(fifo), "the file")
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            os.kill(monitor, signal.SIGCONT)
            words = process.communicate(timeout=PATIENCE)[1]
        # The answer may have been quicker than the word to cancel.
        if process.returncode:
            self.assertRegex(words, "^anima: [^\n]*cancelled\n$")
            self.assertFalse(os.path.exists(fifo))
        self.assertEqual(self.query()["state"], "running")

    def test_a_debugger_that_comes_during_a_save(self):
        """It waits at the door, and the machine stops for it afterwards."""
        door = os.path.join(self.folder, "gdb")
        self.greeted("--gdb", door, name="debugged")
        client = Client(self.connect("debugged"))
        reader, writer = os.pipe()
        client.connection.sendmsg(
            [b'{"jsonrpc": "2.0", "id": "save", "method": "state.save"}\n'],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer]))])
        os.close(writer)
        wait_for(lambda: self.query("debugged")["state"] == "paused", "the pause")
        debugger = socket.socket(socket.AF_UNIX)
        debugger.connect(door)
        self.query("debugged")
        os.close(reader)
        self.assertEqual(client.response()["id"], "save")
        wait_for(lambda: self.query("debugged")["state"] == "paused", "the debugger's stop")
        debugger.close()
        wait_for(lambda: self.query("debugged")["state"] == "running", "the debugger's end")
        client.lines.close()
        client.connection.close()
        self.anima("kill", "debugged")

    def test_a_saved_state_goes_on(self):
        path = os.path.join(self.folder, "state")
        clock = self.query()["clock_ns"]
        self.anima("state", "save", "test", path)
        self.assert_not_restored("a machine called 'test' is running already", path)
        self.client.call("kill")
        self.assert_ends(self.session, 0)
        again = self.run_words("run", "--state", path)
        wait_for(lambda: self.anima("query", "test").returncode == 0, "the machine")
        again.send("!")
        again.expect("!")
        self.assertNotIn("hello", again.before)
        self.assertGreater(self.query()["clock_ns"], clock)
        # It can be saved again, and go on at another place with its line somewhere else.
        other = os.path.join(self.folder, "other")
        self.assertEqual(self.anima("state", "save", "test", other).returncode, 0)
        again.send("q")
        self.assert_ends(again, 0)
        output = os.path.join(self.folder, "output")
        last = self.run_words("run", "--state", other, "--name", "last", "--serial",
                              "file=" + output)
        wait_for(lambda: self.anima("query", "last").returncode == 0, "the machine")
        self.anima("kill", "last")
        self.assert_ends(last, 0)

    def run_words(self, *words):
        session = pexpect.spawn(ANIMA, list(words), env=self.env, timeout=PATIENCE,
                                encoding="utf-8", cwd="/")
        session.delaybeforesend = None
        self.sessions.append(session)
        return session

    def assert_not_restored(self, message, path, *words):
        result = self.anima("run", "--state", path, "--serial", "none", *words)
        self.assertEqual((result.returncode, result.stdout), (1, ""), result.stderr)
        self.assertIn(message, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def test_a_state_that_does_not_fit(self):
        path = os.path.join(self.folder, "state")
        self.anima("state", "save", "test", path)
        other = ["--name", "other"]
        self.assert_not_restored("is one of 1 CPUs, the machine has 2", path, *other, "--cpus", "2")
        self.assert_not_restored("memory: the state has 64 MiB, the machine 32", path, *other,
                                 "--memory", "32M")
        self.assert_not_restored("goes on with no other", path, *other, "--cpu", "x86-64-v1-1")
        self.assert_not_restored("devices", path, *other, "--device", "virtio-rng")
        self.assert_not_restored("not written by Anima", PAYLOAD)
        self.assert_not_restored("No such file", path + "x")
        self.assert_not_restored("is truncated", "/dev/null")
        with open(path, "r+b") as stream:
            stream.seek(os.path.getsize(path) - 100)
            stream.write(b"garbage")
        self.assert_not_restored("damaged", path, *other)
        with open(path, "r+b") as stream:
            stream.truncate(os.path.getsize(path) // 2)
        self.assert_not_restored("truncated", path, *other)
        result = self.anima("run", "test", "--state", path)
        self.assertEqual(result.returncode, 2)
        self.assertIn("leave out 'test'", result.stderr)

    def test_state_save_without_a_descriptor(self):
        self.assert_error(self.client.call("state.save"), -32602, "descriptors")

    def test_a_name_is_taken_once(self):
        result = self.anima("run", "--name", "test", "--engine", "soft", "--kernel", "/dev/zero")
        self.assertEqual(result.returncode, 1)
        second = self.start()
        second.expect("anima: a machine called 'test' is running already")
        self.assert_ends(second, 1)
        self.assertEqual(self.query()["state"], "running")

    def test_modes_of_folder_and_socket(self):
        folder = os.path.join(self.runtime, "test")
        self.assertEqual(stat.S_IMODE(os.stat(self.runtime).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(folder, "control")).st_mode), 0o600)

    @unittest.skipUnless(os.geteuid() == 0, "only root can become another user")
    def test_whom_the_modes_let_in_may_look(self):
        """Everybody on the way to the socket may pass: others see, and change nothing."""
        path = os.path.join(self.runtime, "test", "control")
        talk = f"""
import json, socket
connection = socket.socket(socket.AF_UNIX)
connection.connect({path!r})
for id, method in enumerate(["query", "kill"]):
    connection.sendall(json.dumps({{"jsonrpc": "2.0", "id": id, "method": method}}).encode() + b"\\n")
lines = connection.makefile()
answers = sorted((json.loads(lines.readline()) for _ in range(2)), key=lambda a: a["id"])
print([answer.get("error", {{}}).get("code") for answer in answers])
"""
        def ask():
            return subprocess.run(["/usr/bin/python3", "-c", talk], user="nobody", group="nogroup",
                                  extra_groups=[], capture_output=True, text=True, cwd="/",
                                  check=False, timeout=PATIENCE)
        self.assertIn("PermissionError", ask().stderr)
        for place, mode in ((self.folder, 0o711), (self.runtime, 0o711),
                            (os.path.dirname(path), 0o711), (path, 0o666)):
            os.chmod(place, mode)
        result = ask()
        self.assertEqual(result.stdout, "[None, -32001]\n", result.stderr)

    def test_start_is_the_owners(self):
        self.assert_error(self.client.call("start", definition={}), -32001)

    def test_wrong_requests(self):
        self.assert_error(self.client.call("frobnicate"), -32601, "frobnicate")
        self.assert_error(self.client.call("query", now=True), -32602, "now")
        self.assert_error(self.client.call("stop", timeout="soon"), -32602, "timeout")
        self.assert_error(self.client.call("stop", timeout=-1), -32602, "timeout")
        for line, code in (
                ("nonsense", -32700),
                ("[]", -32600),
                ("1", -32700),
                ("{}", -32600),
                ('{"jsonrpc": "1.0", "id": 1, "method": "query"}', -32600),
                ('{"jsonrpc": "2.0", "id": 1, "method": 7}', -32600),
                ('{"jsonrpc": "2.0", "id": {}, "method": "query"}', -32600),
                ('{"jsonrpc": "2.0", "id": 1.5, "method": "query"}', -32600),
                ('{"jsonrpc": "2.0", "id": "' + "x" * 200 + '", "method": "query"}', -32600),
                ('{"jsonrpc": "2.0", "id": 1, "method": "query", "params": [1]}', -32600),
                ('{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "query"}', -32700),
                ('{"jsonrpc": "2.0", "id": 1, "result": {}}', -32600),
                ("[" * 100000, -32700),
                ('{"a":' * 50 + "1" + "}" * 50, -32700)):
            self.client.send_line(line + "\n")
            self.assert_error(self.client.receive(), code)
        self.client.send_line(b"\xff\xfe\x00\n")
        self.assert_error(self.client.receive(), -32700)
        self.assertEqual(self.client.call("query")["result"]["state"], "running")

    def test_ids_come_back_as_they_were(self):
        for id_ in 0, -1, 1 << 60, "x", "", None:
            self.client.send_line(json.dumps({"jsonrpc": "2.0", "id": id_, "method": "query"}) +
                                  "\n")
            response = self.client.receive()
            self.assertEqual(response["id"], id_)
            self.assertIn("result", response)

    def test_a_notification_gets_no_answer(self):
        self.client.send_line('{"jsonrpc": "2.0", "method": "query"}\n')
        self.client.send_line('{"jsonrpc": "2.0", "method": "frobnicate"}\n')
        self.assertEqual(self.client.call("query")["id"], self.client.last_id)

    def test_a_line_without_end_is_cut_off(self):
        try:
            for _ in range(80):
                self.client.send_line(b"x" * 65536)
            self.assertEqual(self.client.connection.recv(1), b"")
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.assertEqual(self.query()["state"], "running")

    def test_descriptors_nobody_wants(self):
        null = os.open("/dev/null", os.O_RDONLY)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null] * 90))]
        self.client.connection.sendmsg([b'{"jsonrpc": "2.0", "id": 1, "method": "query"}\n'],
                                       ancillary)
        self.assert_error(self.client.receive(), -32602, "descriptors")
        try:
            for _ in range(4):
                self.client.connection.sendmsg([b" "], ancillary)
            self.client.send_line("\n")
            self.assertEqual(self.client.connection.recv(1), b"")
        except (BrokenPipeError, ConnectionResetError):
            pass
        os.close(null)
        status = self.query()
        held = os.listdir(f"/proc/{status['monitor_pid']}/fd")
        self.assertLess(len(held), 20)

    def test_a_client_that_never_reads(self):
        line = b'{"jsonrpc": "2.0", "id": 1, "method": "query"}\n' * 1000
        deaf = self.connect()
        deaf.settimeout(2)
        try:
            for _ in range(200):
                deaf.sendall(line)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            pass
        self.assertEqual(self.query()["state"], "running")
        deaf.close()

    def test_many_connections(self):
        crowd = [self.connect() for _ in range(100)]
        for connection in crowd:
            connection.close()
        wait_for(lambda: self.anima("query", "test").returncode == 0, "an answer")

    def test_a_client_that_leaves_before_the_answer(self):
        for _ in range(20):
            connection = self.connect()
            connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "query"}\n')
            connection.close()
        self.assertEqual(self.query()["state"], "running")


if __name__ == "__main__":
    unittest.main()
