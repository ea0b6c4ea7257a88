#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""stress.py SECONDS [--seed N]: four clients send one machine a random mix of all methods, right and
wrong. Each call is answered, no event is lost, nothing leaks, and the guest is unharmed."""
import argparse
import io
import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
import unittest

import pexpect

from anima_test import ANIMA, PATIENCE, AnimaTest, wait_for

BUILD = os.path.dirname(os.path.dirname(ANIMA))
sys.path.insert(0, os.path.join(BUILD, "lib", "api"))

CLIENTS = 4
# Memory that the monitor's allocator may keep, and what may be open now and then.
GROWTH_KB = 6 << 10
SETTINGS = argparse.Namespace()

# How often what is called, in a mix of all.
MIX = {
    "query": 20, "definition": 5, "device.attach": 6, "device.detach": 6, "device.change": 6, "machine.change": 2,
    "metrics": 10, "pause": 15, "resume": 20, "nmi": 10, "reset": 1, "stop": 5,
    "state.save": 6, "upgrade": 2, "events.subscribe": 3, "job.list": 5, "job.cancel": 5,
    "protocol.describe": 1, "console.attach": 3, "guest.info": 2, "guest.addresses": 2, "guest.exec": 2,
    "guest.freeze": 2, "guest.thaw": 2, "guest.time": 2, "guest.shutdown": 2,
}
NOT_CALLED = {"start", "detach", "kill",
              "network.start", "network.attach", "network.query", "network.forward"}
VALUES = [None, True, -1, 0, 1 << 62, 1.5, "", "x" * 1000, [], [[]], {}, {"a": {"b": []}}]
GARBAGE = [b"\n", b"{\n", b"[]\n", b"nonsense\n", b"\xff\xfe\x00\n", b"[" * 1000 + b"\n",
           b'{"jsonrpc": "2.0", "id": 1}\n', b'{"jsonrpc": "2.0", "method": "pause", "id": {}}\n',
           b'{"jsonrpc": "2.0", "id": 1, "method": "query", "params": [1]}\n']


class Client(threading.Thread):
    """One of those that call."""

    def __init__(self, test, number, end, methods):
        super().__init__(name=f"client {number}")
        self.test, self.end, self.methods = test, end, methods
        self.random = random.Random(SETTINGS.seed * CLIENTS + number)
        self.library = test.library
        self.calls, self.refused, self.fault = 0, 0, None
        self.machine = self.library.Machine.connect("stress")

    def run(self):
        try:
            while time.monotonic() < self.end:
                self.turn()
            self.machine.close()
        except BaseException as fault:  # pylint: disable=broad-except
            self.fault = fault

    def turn(self):
        dice = self.random.random()
        if dice < 0.05:
            self.send_wrong_params()
        elif dice < 0.07:
            self.send_garbage()
        elif dice < 0.10:
            self.reconnect()
        else:
            method = self.random.choices(list(MIX), MIX.values())[0]
            getattr(self, method.replace(".", "_"), self.plain)(method)
        while self.machine.event(0):
            pass

    def outcome(self, call):
        """The answer, which comes: a result, or a failure that is none of the protocol's own."""
        self.calls += 1
        if not call.wait(int(PATIENCE * 1000)):
            raise AssertionError("a call was not answered")
        try:
            return json.loads(call.result())
        except self.library.Error as error:
            self.refused += 1
            if "as the protocol describes" in str(error) or "has gone" in str(error):
                raise
            return error
        finally:
            call.close()

    def plain(self, method, **params):
        return self.outcome(self.machine.begin(method, json.dumps(params)))

    def events_subscribe(self, method):
        answer = self.plain(method)
        self.plain(method, since=self.random.randint(0, answer["seq"]))

    def guest_exec(self, method):
        self.outcome(self.lasting(method, argv=["true"]))

    def guest_freeze(self, method):
        self.plain(method, timeout=self.random.randint(1, 5))

    def device_attach(self, method):
        """Disks and cards, at places that are taken now and then."""
        options = {"network": "none"}
        kind = self.random.choice(["disk", "nic"])
        if kind == "disk":
            path = os.path.join(self.test.folder, f"{self.name} {self.random.randint(0, 3)}")
            with open(path, "ab") as stream:
                stream.truncate(1 << 20)
            options = {"file": path}
        if self.random.random() < 0.3:
            options["address"] = f"{self.random.randint(0, 9):02x}:00.0"
        self.plain(method, kind=kind, options=options)

    def device_detach(self, method):
        """The guest has no driver for that: the time is up, it is cancelled, or a reset comes."""
        ids = [device["id"] for device in self.test.pluggable(self.machine)] + ["nic0", "nothing"]
        self.outcome(self.lasting(method, id=self.random.choice(ids), timeout=1))

    def device_change(self, method):
        """A card moves between NAT and nothing, and with a disk between limits."""
        dice = self.random.random
        if dice() < 0.3:
            self.plain(method, id="disk0", options={"iops": self.random.choice([100, 1 << 20, None]),
                                                    "bps-read": self.random.choice(["10M", None])})
            return
        options = {"network": "user" if dice() < 0.3 else "none", "link": self.random.choice(["up", "down"]),
                   "rate": self.random.choice(["1M", "10M", None])}
        if dice() < 0.3:
            options["forward"] = [f"tcp:0:{port}" for port in range(1, self.random.randint(1, 4))]
        if dice() < 0.1:
            options["mtu"] = 1400  # refused
        self.plain(method, id="nic0", options=options)

    def machine_change(self, method):
        self.plain(method, options={"restart": self.random.choice(["never", "on-failure"]),
                                    "stop-timeout": self.random.randint(0, 90)})

    def job_cancel(self, method):
        self.plain(method, job=self.random.randint(0, 1000))

    def lasting(self, method, fd=-1, **params):
        """Work that is cancelled now and then."""
        call = self.machine.begin(method, json.dumps(params), fd)
        if self.random.random() < 0.3:
            try:
                call.cancel(int(PATIENCE * 1000))
            except self.library.Error:
                pass
        return call

    def nmi(self, method):
        """Not while the guest begins: before it has handlers one would rightly be its end."""
        if not self.test.beginning.acquire(blocking=False):
            return
        try:
            self.plain(method)
        finally:
            self.test.beginning.release()

    def reset(self, method):
        with self.test.beginning:
            if isinstance(self.plain(method), self.library.Error):
                return
            self.test.beginnings += 1
            end = time.monotonic() + PATIENCE
            while self.test.session.expect(["hello", pexpect.TIMEOUT], timeout=0.05):
                self.plain("resume")
                if time.monotonic() > end:
                    raise AssertionError("the guest does not begin")

    def upgrade(self, method):
        self.outcome(self.lasting(method))

    def console_attach(self, method):
        """Types something that the guest gives back, and goes when it likes."""
        ours, theirs = socket.socketpair()
        with ours:
            self.outcome(self.machine.begin(method, "{}", theirs.fileno()))
            theirs.close()
            if self.random.random() < 0.5:
                ours.sendall(b".")
            if self.random.random() < 0.5 and select.select([ours], [], [], 0)[0]:
                ours.recv(1000)

    def state_save(self, method):
        kind = self.random.choice(["file", "reader", "nobody", "gone"])
        if kind == "file":
            with open(os.path.join(self.test.folder, self.name), "wb") as stream:
                self.outcome(self.lasting(method, stream.fileno()))
            return
        reader, writer = os.pipe()
        call = self.lasting(method, writer)
        os.close(writer)
        if kind == "reader":
            with open(reader, "rb") as stream:
                stream.read()
        elif kind == "nobody":
            # Its pipe is full, and it waits; then it is told that nobody reads.
            time.sleep(0.02)
            os.close(reader)
        else:
            os.close(reader)
        self.outcome(call)

    def send_wrong_params(self):
        method = self.random.choice(list(self.methods.values()))
        names = list(method["params"]["properties"]) + ["nothing"]
        params = {self.random.choice(names): self.random.choice(VALUES)}
        if method["name"] in NOT_CALLED | {"stop", "upgrade"}:
            params["nothing"] = 1
        self.plain(method["name"], **params)

    def send_garbage(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.path.join(self.test.runtime, "stress", "control"))
            connection.settimeout(PATIENCE)
            for _ in range(self.random.randint(1, 5)):
                connection.sendall(self.random.choice(GARBAGE))
            if self.random.random() < 0.5:
                connection.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "query"}\n')
                connection.recv(1)

    def reconnect(self):
        """With a call under way."""
        self.machine.begin(self.random.choice(["query", "metrics", "pause"])).close()
        self.machine.close()
        self.machine = self.library.Machine.connect("stress")


class Watcher(threading.Thread):
    """Sees every event, and that none is missing."""

    def __init__(self, library):
        super().__init__(name="watcher")
        self.library = library
        self.machine = library.Machine.connect("stress")
        self.last = json.loads(self.machine.call("events.subscribe"))["seq"]
        self.kinds, self.faults, self.ended = {}, [], False

    def run(self):
        while not self.ended:
            event = json.loads(self.machine.event(-1))
            if event["type"] == "missed" or event["seq"] != self.last + 1:
                self.faults.append((self.last, event))
            self.last = event["seq"]
            self.kinds[event["type"]] = self.kinds.get(event["type"], 0) + 1
            self.ended = event["type"] == "ended"


def resident_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


class Stress(AnimaTest):
    def setUp(self):
        super().setUp()
        os.environ["ANIMA_RUNTIME_DIR"] = self.runtime
        if "LD_PRELOAD" in self.env:
            del self.env["LD_PRELOAD"]
            self.env["ASAN_OPTIONS"] = "detect_leaks=1"
        import anima  # pylint: disable=import-outside-toplevel
        self.library = anima
        self.session = None
        self.beginning, self.beginnings = threading.Lock(), 0

    @staticmethod
    def pluggable(machine):
        """What came while the machine ran."""
        definition = json.loads(machine.call("definition"))["definition"]
        return [device for kind in ("disk", "nic") for device in definition[kind]
                if not device["address"].startswith("00:")]

    def unplug_all(self, machine):
        """A guest that begins anew has let go of what it was asked for."""
        calls = [machine.begin("device.detach", json.dumps({"id": device["id"]}))
                 for device in self.pluggable(machine)]
        if calls:
            machine.call("reset")
            self.session.expect("hello")
        for call in calls:
            self.assertTrue(call.wait(int(PATIENCE * 1000)))
            call.result()
        self.assertEqual(self.pluggable(machine), [])

    def calm(self):
        """What the machine holds when nobody asks for anything."""
        machine = self.library.Machine.connect("stress")
        wait_for(lambda: not json.loads(machine.call("job.list"))["jobs"], "the end of all work")
        machine.call("resume")
        self.unplug_all(machine)
        # A disk that was limited once keeps a timer.
        for options in {"iops": 100}, {"iops": None, "bps-read": None}:
            machine.call("device.change", json.dumps({"id": "disk0", "options": options}))
        machine.call("device.change", json.dumps({"id": "nic0", "options": {"network": "none"}}))
        machine.call("machine.change", json.dumps({"options": {"restart": None}}))
        status = json.loads(machine.call("query"))
        machine.close()
        monitor, vmm = status["monitor_pid"], status["pid"]

        def descriptors():
            return [len(os.listdir(f"/proc/{pid}/fd")) for pid in (monitor, vmm)]

        # Those of connections that were closed go a moment later.
        held = descriptors()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            time.sleep(0.1)
            held = min(held, descriptors())
        return held, resident_kb(monitor)

    def mix(self, seconds, number, methods):
        end = time.monotonic() + seconds
        clients = [Client(self, number * CLIENTS + i, end, methods) for i in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(seconds + 2 * PATIENCE)
            if client.is_alive():
                self.fail(f"seed {SETTINGS.seed}: {client.name} hangs")
        for client in clients:
            if client.fault:
                self.session.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=1)
                raise AssertionError(f"{client.name}, seed {SETTINGS.seed}: {self.session.before}") \
                    from client.fault
        return clients

    def assert_sound(self):
        """The guest answers, and what it computed twice since its last reset was the same."""
        self.session.send("%")
        self.assertEqual(self.session.expect(["sound after", "harmed"]), 0)

    def test_a_random_mix(self):
        disk = os.path.join(self.folder, "disk")
        with open(disk, "wb") as stream:
            stream.truncate(1 << 20)
        self.session = session = self.greeted("--cpus", "2", "--disk", disk, "--device", "virtio-rng",
                               "--device", "pvpanic", "--nic", "none", name="stress")
        session.logfile_read = said = io.StringIO()
        machine = self.library.Machine.connect("stress")
        protocol = json.loads(machine.call("protocol.describe"))
        methods = {method["name"]: method for method in protocol["methods"]}
        self.assertEqual(set(methods), set(MIX) | NOT_CALLED, "a method has no place in the mix")
        watcher = Watcher(self.library)
        watcher.start()
        self.mix(SETTINGS.seconds * 0.2, 0, methods)
        before = self.calm()
        self.assert_sound()
        clients = self.mix(SETTINGS.seconds * 0.8, 1, methods)
        after = self.calm()
        self.assert_sound()
        self.assertEqual(after[0], before[0], f"descriptors of monitor and vmm; seed {SETTINGS.seed}")
        if "LD_PRELOAD" not in os.environ:
            self.assertLess(after[1] - before[1], GROWTH_KB, "kB of the monitor")
        machine.call("reset")
        session.expect("hello")
        self.assert_sound()
        session.send("q")
        self.assert_ends(session, 0)
        self.assertNotIn("Sanitizer", said.getvalue())
        watcher.join(PATIENCE)
        self.assertEqual(watcher.faults, [])
        self.assertTrue(watcher.ended)
        calls, refused = (sum(getattr(one, key) for one in clients) for key in ("calls", "refused"))
        self.assertGreater(calls, 20 * SETTINGS.seconds)
        self.assertLess(refused, calls / 2)
        for kind in "paused", "running", "restarted", "upgraded", "job-ended", "stopping", \
                "device-attached", "device-detached":
            self.assertIn(kind, watcher.kinds)
        print(f"seed {SETTINGS.seed}: {calls} calls, {refused} refused, {watcher.last} events, "
              f"{self.beginnings} resets, {watcher.kinds['upgraded']} upgrades, "
              f"monitor {before[1]} to {after[1]} kB")


def under_sanitizer():
    """This interpreter again, with the runtime of a library that was built with the address
    sanitizer before all others."""
    library = os.path.join(BUILD, "lib", "libanima.so.0")
    with open(library, "rb") as stream:
        if b"__asan_init" not in stream.read() or "LD_PRELOAD" in os.environ:
            return
    runtime = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True,
                             check=True).stdout.strip()
    os.environ.update(LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0")
    os.execv(sys.executable, [sys.executable, *sys.argv])


if __name__ == "__main__":
    under_sanitizer()
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.parse_args(namespace=SETTINGS)
    unittest.main(argv=sys.argv[:1])
