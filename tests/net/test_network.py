#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A network that machines share without a guest: this program is its cards."""
import array
import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from test_nat import ACK, BROADCAST, PATIENCE, PUSH, SYN, Segment, checksum, free_port, ip_packet, pseudo, udp_packet

VMM, ANIMA = os.environ["ANIMA_VMM"], os.environ["ANIMA"]
LINK_FD = 3
IP, ARP, IP6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"


class Connection:
    """A connection to a network's process."""

    def __init__(self, end):
        self.end, self.number = end, 0
        end.settimeout(PATIENCE)
        self.lines = end.makefile()

    def call(self, method, fd=None, **params):
        self.number += 1
        request = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        self.end.sendmsg([json.dumps(request).encode() + b"\n"], beside)
        answer = json.loads(self.lines.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    def close(self):
        self.lines.close()
        self.end.close()


class Card:
    """A card on a network, with a guest that speaks for it."""

    def __init__(self, network, number, name="", **options):
        self.mac = options.get("mac", bytes([0x52, 0x54, 0, 0, number >> 8, number & 255]))
        self.cable, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.cable.settimeout(PATIENCE)
        self.connection = network.connect()
        try:
            self.address = self.connection.call("network.attach", theirs.fileno(), machine=name or f"m{number}",
                                                nic="nic0", mac=self.mac.hex(":"), name=name).get("address")
        except RuntimeError:
            self.close()
            raise
        finally:
            theirs.close()

    def close(self):
        self.cable.close()
        self.connection.close()

    def send(self, target, kind, body, source=None):
        self.cable.send(target + (source or self.mac) + kind + body)

    def frames(self):
        """All that comes at once."""
        while select.select([self.cable], [], [], 0.2)[0]:
            yield self.cable.recv(70000)

    def receive(self, wanted):
        """The first frame for which wanted() gives something; answers questions for our address."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            frame = self.cable.recv(70000)
            ours = socket.inet_aton(self.address) if self.address else b"none"
            if frame[12:14] == ARP and frame[20:22] == b"\0\1" and frame[38:42] == ours:
                self.send(frame[6:12], ARP, frame[14:20] + b"\0\2" + self.mac + ours + frame[22:32])
            found = wanted(frame)
            if found is not None:
                return found
        raise AssertionError("nothing of that came")

    def got(self, body, kind=b"\x88\xb5"):
        return self.receive(lambda frame: True if frame[12:14] == kind and frame[14:] == body else None)

    # ---- of IP ----

    def mac_of(self, address):
        return b"\x52\x55" + socket.inet_aton(address)

    def dhcp(self, kind=1, requested=None, source=None, mac=None):
        """Ask, and give the options of the answer with its type and address."""
        mac = mac or self.mac
        packet = struct.pack("!BBBBIHH4s4s4s4s", 1, 1, 6, 0, 0x1234, 0, 0, *[bytes(4)] * 4) + mac + bytes(202)
        packet += b"\x63\x82\x53\x63\x35\x01" + bytes([kind])
        if requested:
            packet += b"\x32\x04" + socket.inet_aton(requested)
        self.send(BROADCAST, IP, udp_packet("0.0.0.0", "255.255.255.255", 68, 67, packet + b"\xff"), source)
        reply = self.receive(lambda frame: frame[42:] if frame[12:14] == IP and frame[23] == 17 and
                             frame[36:38] == b"\0\x44" else None)
        options, rest = {"address": socket.inet_ntoa(reply[16:20])}, reply[240:]
        while rest and rest[0] != 255:
            options[rest[0]] = rest[2:2 + rest[1]]
            rest = rest[2 + rest[1]:]
        return options

    def dns(self, name, resolver, kind=1):
        """Ask for a name: the code and the answers' data."""
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
        packet = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question + struct.pack("!HH", kind, 1)
        self.send(self.mac_of(resolver), IP, udp_packet(self.address, resolver, 4000, 53, packet))
        reply = self.receive(lambda frame: frame[42:] if frame[12:14] == IP and frame[23] == 17 and
                             frame[36:38] == struct.pack("!H", 4000) else None)
        _, flags, _, count = struct.unpack("!HHHH", reply[:8])
        answers, rest = [], reply[len(packet):]
        for _ in range(count):
            length, = struct.unpack("!H", rest[10:12])
            answers.append(rest[12:12 + length])
            rest = rest[12 + length:]
        return flags & 15, answers

    def segment(self, port):
        def wanted(frame):
            if frame[12:14] == IP and frame[23] == 6:
                segment = Segment(frame[14:])
                return segment if segment.target_port == port else None
            return None
        return self.receive(wanted)

    def tcp(self, target, port, target_port, sequence, acknowledged, flags, data=b""):
        header = struct.pack("!HHIIBBHHH", port, target_port, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
        total = checksum(pseudo(self.address, target, 6, len(header) + len(data)) + header + data)
        self.send(self.mac_of(target), IP,
                  ip_packet(self.address, target, 6, header[:16] + struct.pack("!HH", total, 0) + data))


class Network(unittest.TestCase):
    subnet = "10.98.7.0/24"
    host, resolver = "10.98.7.1", "10.98.7.2"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.runtime, self.data = os.path.join(folder.name, "run"), os.path.join(folder.name, "data")
        self.environment = os.environ | {"ANIMA_RUNTIME_DIR": self.runtime, "ANIMA_DATA_DIR": self.data}

    def anima(self, *words, status=0):
        result = subprocess.run([ANIMA, "network", *words], env=self.environment, capture_output=True,
                                text=True, timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stderr if status else result.stdout

    def start(self, *options, kind="nat"):
        subnet = ["--subnet", self.subnet] if kind == "nat" else []
        self.anima("create", "lan", "--kind", kind, *subnet, *options)
        self.process = self.spawn()
        self.addCleanup(self.end)

    def spawn(self):
        """The process of the network, as a machine's monitor starts it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

        def place():
            os.dup2(theirs.fileno(), LINK_FD)

        process = subprocess.Popen([VMM, "network"], env=self.environment, pass_fds=(LINK_FD,), preexec_fn=place,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        theirs.close()
        link = Connection(ours)
        try:
            link.call("network.start", name="lan")
        except RuntimeError as error:
            process.wait(PATIENCE)
            raise error
        finally:
            link.close()
        return process

    def end(self):
        self.process.terminate()
        self.process.wait(PATIENCE)

    def connect(self):
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.connect(os.path.join(self.runtime, "networks", "lan", "control"))
        return Connection(end)

    def card(self, number, name="", **options):
        card = Card(self, number, name, **options)
        self.addCleanup(card.close)
        return card

    def query(self):
        connection = self.connect()
        try:
            return connection.call("network.query")
        finally:
            connection.close()

    def helper(self):
        """The process that carries the frames."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        self.assertEqual(len(children), 1)
        return int(children[0])

    # ---- the switch ----

    def test_cards_find_each_other(self):
        self.start(kind="internal")
        one, two, three = (self.card(number) for number in (1, 2, 3))
        one.send(BROADCAST, b"\x88\xb5", b"who is there")
        two.got(b"who is there")
        three.got(b"who is there")
        two.send(one.mac, b"\x88\xb5", b"me")
        one.got(b"me")
        self.assertEqual(list(three.frames()), [])
        self.assertEqual([port["frames_in"] for port in self.query()["ports"]], [1, 1, 0])

    def test_a_large_segment_passes_whole(self):
        self.start(kind="internal")
        one, two = self.card(1), self.card(2)
        data = os.urandom(65000)
        one.send(two.mac, b"\x88\xb5", data)
        two.got(data)

    def test_a_card_that_does_not_read_holds_up_nobody(self):
        self.start(kind="internal")
        one, lazy, two = self.card(1), self.card(2), self.card(3)
        for _ in range(3000):
            one.send(lazy.mac, b"\x88\xb5", bytes(60000))
        one.send(two.mac, b"\x88\xb5", b"on time")
        two.got(b"on time")
        self.assertGreater(self.query()["ports"][1]["lost"], 0)

    def test_no_card_sends_in_the_name_of_another(self):
        self.start(kind="internal")
        one, two, three = (self.card(number) for number in (1, 2, 3))
        one.send(three.mac, b"\x88\xb5", b"false", source=two.mac)
        one.send(three.mac, b"\x88\xb5", b"group", source=b"\x01" + two.mac[1:])
        one.send(b"\x52\x54\0\0\0\x09", b"\x88\xb5", b"to nobody")
        one.cable.send(b"short")
        one.send(three.mac, b"\x88\xb5", b"true")
        self.assertEqual([frame[14:] for frame in three.frames()], [b"true"])
        self.assertEqual(list(two.frames()), [])
        self.assertEqual(self.query()["ports"][0]["refused"], 3)

    def test_without_the_filter_addresses_are_learnt(self):
        self.start("--mac-filter=no", kind="internal")
        one, two, three = (self.card(number) for number in (1, 2, 3))
        nested = b"\x02\0\0\0\0\x01"
        one.send(two.mac, b"\x88\xb5", b"from within", source=nested)
        two.got(b"from within")
        two.send(nested, b"\x88\xb5", b"to within")
        one.got(b"to within")
        self.assertEqual(list(three.frames()), [])
        # Cards' own addresses stay where they are, and others for a while.
        three.send(two.mac, b"\x88\xb5", b"stolen", source=one.mac)
        three.send(two.mac, b"\x88\xb5", b"stolen", source=nested)
        self.assertEqual(list(two.frames()), [])
        # A flood of addresses drives out nobody's.
        for number in range(5000):
            three.send(two.mac, b"\x88\xb5", b"flood", source=b"\x02\x01\0\0" + struct.pack("!H", number))
        two.send(nested, b"\x88\xb5", b"still there")
        one.got(b"still there")

    def test_an_address_is_on_the_network_once(self):
        self.start(kind="internal")
        one = self.card(1)
        with self.assertRaisesRegex(RuntimeError, "another card on the network has the same address"):
            self.card(1)
        one.close()
        end = time.monotonic() + PATIENCE
        while self.query()["ports"] and time.monotonic() < end:
            time.sleep(0.01)
        self.card(1)

    # ---- addresses and names ----

    def test_dhcp_gives_each_card_the_same_address_again(self):
        self.start("--domain", "lan", "--mtu", "1400")
        one, two = self.card(1, "web"), self.card(2, "db")
        self.assertNotEqual(one.address, two.address)
        for card, name in (one, b"web"), (two, b"db"):
            offer = card.dhcp()
            self.assertEqual((offer["address"], offer[53]), (card.address, b"\2"))
            answer = card.dhcp(3, card.address)
            self.assertEqual((answer["address"], answer[53], answer[12], answer[15]),
                             (card.address, b"\5", name, b"lan"))
            self.assertEqual((answer[1], answer[3], answer[6], answer[26]),
                             (b"\xff\xff\xff\0", socket.inet_aton(self.host), socket.inet_aton(self.resolver),
                              b"\x05\x78"))
        # What it wants is not what it gets.
        self.assertEqual(one.dhcp(3, two.address)[53], b"\6")

    def test_addresses_survive_the_network(self):
        self.start()
        before = [self.card(number, f"m{number}").address for number in range(1, 40)]
        end = time.monotonic() + PATIENCE
        while len(self.query()["leases"]) < 39 and time.monotonic() < end:
            time.sleep(0.02)
        self.end()
        self.process = self.spawn()
        after = [self.card(number, f"m{number}").address for number in reversed(range(1, 40))]
        self.assertEqual(before, after[::-1])

    def test_names_are_found(self):
        self.start("--domain", "lan")
        web, db = self.card(1, "web"), self.card(2, "Db")
        for name in "db", "DB.lan":
            self.assertEqual(web.dns(name, self.resolver), (0, [socket.inet_aton(db.address)]))
        self.assertEqual(web.dns("db", self.resolver, kind=28), (0, []))
        self.assertEqual(web.dns("nobody.lan", self.resolver), (3, []))
        reverse = ".".join(reversed(db.address.split("."))) + ".in-addr.arpa"
        self.assertEqual(web.dns(reverse, self.resolver, kind=12), (0, [b"\2Db\3lan\0"]))

    def test_an_internal_network_with_a_subnet_has_names_and_no_way_out(self):
        self.start("--subnet", self.subnet, kind="internal")
        web, db = self.card(1, "web"), self.card(2, "db")
        self.assertNotIn(3, web.dhcp())
        self.assertEqual(web.dns("db.internal", self.resolver), (0, [socket.inet_aton(db.address)]))
        self.assertEqual(web.dns("www.example.org", self.resolver), (5, []))
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.5)
            web.tcp(self.host, 1000, server.getsockname()[1], 100, 0, SYN)
            with self.assertRaises(TimeoutError):
                server.accept()

    def test_no_guest_poses_as_a_server_or_as_another(self):
        self.start()
        bad, good = self.card(1, "bad"), self.card(2, "good")
        ours, theirs = socket.inet_aton(bad.address), socket.inet_aton(good.address)

        def arp(sender):
            return bytes.fromhex("0001080006040002") + bad.mac + sender + good.mac + theirs

        offer = udp_packet(bad.address, "255.255.255.255", 67, 68, bytes(300))
        advertisement = (b"\x60\0\0\0" + struct.pack("!HBB", 16, 58, 255) + bytes(32) + b"\x86" + bytes(15))
        hidden = (b"\x60\0\0\0" + struct.pack("!HBB", 24, 0, 255) + bytes(32) + b"\x3a\0" + bytes(6) + b"\x86" +
                  bytes(15))
        for kind, body in ((IP, offer), (IP6, advertisement), (IP6, hidden), (ARP, arp(theirs)),
                           (ARP, arp(socket.inet_aton(self.host))), (ARP, arp(socket.inet_aton(self.resolver))),
                           (b"\x81\0", b"\0\0" + IP + offer), (b"\x81\0", b"\x20\0" + ARP + arp(theirs)),
                           (IP, udp_packet(good.address, self.host, 1, 2, b"x")), (IP, b"\x45"), (ARP, b"")):
            bad.send(BROADCAST, kind, body)
        bad.send(BROADCAST, ARP, arp(ours))
        self.assertEqual([frame[14:] for frame in good.frames()], [arp(ours)])
        self.assertEqual(self.query()["ports"][0]["refused"], 11)

    # ---- the way out and in ----

    def test_more_machines_than_libslirp_remembers_reach_the_host(self):
        self.start()
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        self.addCleanup(server.close)
        port, cards = server.getsockname()[1], [self.card(number) for number in range(1, 41)]
        for card in cards:
            card.tcp(self.host, 1000, port, 100, 0, SYN)
            answer = card.segment(1000)
            self.assertEqual((answer.flags, answer.good), (SYN | ACK, True))
            card.tcp(self.host, 1000, port, 101, answer.sequence + 1, ACK)
            card.ends = 101, answer.sequence + 1
        ends = [server.accept()[0] for _ in cards]
        # Each gets its own words, when others have been heard meanwhile.
        for number, card in enumerate(cards):
            card.tcp(self.host, 1000, port, *card.ends, ACK | PUSH, str(number).encode())
        for end in ends:
            end.settimeout(PATIENCE)
            words = end.recv(100)
            end.sendall(b"hello " + words)
            end.close()
        for number, card in enumerate(cards):
            while not (segment := card.segment(1000)).data:
                continue
            self.assertEqual(segment.data, f"hello {number}".encode())

    def test_a_forward_leads_to_a_machine_by_its_name(self):
        port = free_port()
        self.start("--forward", f"tcp:{port}:web:80")
        self.card(1, "other")
        web = self.card(2, "web")
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            self.assertEqual(web.segment(80).flags, SYN)

    def test_forwards_change_while_it_runs(self):
        self.start()
        web, port = self.card(1, "web"), free_port()
        self.anima("forward", "lan", "add", f"tcp:{port}:web:80")
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            self.assertEqual(web.segment(80).flags, SYN)
        self.assertEqual(self.query()["forwards"], [f"tcp:127.0.0.1:{port}:web:80"])
        self.assertIn("address already in use", self.anima(
            "forward", "lan", "add", f"tcp:{port}:web:81", status=1).lower())
        # Another helper has the same.
        os.kill(self.helper(), signal.SIGKILL)
        self.again(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        # What is asked for before it is ready waits.
        os.kill(self.helper(), signal.SIGKILL)
        self.anima("forward", "lan", "remove", f"tcp:{port}:web:80")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.assertIn("there is no such forward", self.anima(
            "forward", "lan", "remove", f"tcp:{port}:web:80", status=1))
        shown = json.loads(self.anima("show", "lan", "--json"))
        self.assertEqual((shown["state"], shown["forwards"], shown.get("forward")), ("running", [], None))

    def test_a_forward_for_a_time_is_not_written_down(self):
        self.start()
        self.card(1, "web")
        self.anima("forward", "lan", "add", "tcp:0:web:80", "--temporary")
        forward, = self.query()["forwards"]
        self.assertRegex(forward, r"^tcp:127\.0\.0\.1:[1-9][0-9]*:web:80$")
        self.assertNotIn("forward", json.loads(self.anima("show", "lan", "--json")))
        self.anima("forward", "lan", "remove", forward)
        self.assertEqual(self.query()["forwards"], [])

    def test_a_port_that_is_taken_is_told(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.anima("create", "lan", "--subnet", self.subnet, "--forward", f"tcp:{port}:web:80")
            with self.assertRaisesRegex(RuntimeError, f"forward tcp 127.0.0.1:{port}: Address already in use, by "
                                                      f"process {os.getpid()}"):
                self.spawn()

    # ---- life ----

    def again(self, act):
        """Until it works."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except (OSError, AssertionError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def test_another_helper_takes_over_all_cards(self):
        self.start()
        one, two = self.card(1, "one"), self.card(2, "two")
        for _ in range(2):
            os.kill(self.again(self.helper), signal.SIGKILL)

        def talk():
            one.send(two.mac, b"\x88\xb5", b"again")
            self.assertIn(b"again", [frame[14:] for frame in two.frames()])

        self.again(talk)
        self.assertEqual(one.dhcp()["address"], one.address)
        self.assertEqual(len(self.query()["ports"]), 2)

    def test_it_ends_with_its_last_card(self):
        self.start()
        card = self.card(1)
        self.assertIsNone(self.process.poll())
        self.assertIn("machines are on the network", self.anima("delete", "lan", status=1))
        card.close()
        self.assertEqual(self.process.wait(PATIENCE), 0)
        self.assertFalse(os.path.exists(os.path.join(self.runtime, "networks", "lan")))
        # One that lingers after its last machine keeps nobody from deleting it.
        self.process = self.spawn()
        self.anima("delete", "lan")

    def test_one_that_is_defined_anew_is_not_the_old_one(self):
        self.start()
        card = self.card(1)
        self.anima("edit", "lan", "mtu=1400")
        self.card(2).close() # while there are cards it stays what it is
        card.close()
        with self.assertRaisesRegex(RuntimeError, "defined anew"):
            self.card(3)
        self.assertEqual(self.process.wait(PATIENCE), 0)
        self.process = self.spawn()
        self.anima("delete", "lan")
        self.anima("create", "lan", "--subnet", "10.98.9.0/24")
        with self.assertRaisesRegex(RuntimeError, "defined anew"):
            self.card(1)
        self.assertEqual(self.process.wait(PATIENCE), 0)
        self.process = self.spawn()
        self.assertEqual(self.card(1).address.rpartition(".")[0], "10.98.9")

    def test_there_is_one_process(self):
        self.start()
        with self.assertRaisesRegex(RuntimeError, "the network 'lan' runs already"):
            self.spawn()

    def test_it_is_confined(self):
        for kind in "nat", "internal":
            self.start(kind=kind)
            self.card(1)
            with open(f"/proc/{self.helper()}/status", encoding="utf-8") as status:
                lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
            self.assertEqual((lines["NoNewPrivs"], lines["Seccomp"]), ("1", "2"))
            self.assertEqual(int(lines["CapEff"], 16) | int(lines["CapPrm"], 16) | int(lines["CapInh"], 16), 0)
            self.assertNotIn("0", lines["Uid"].split())
            self.end()
            self.anima("delete", "lan")

    def test_what_is_no_request_is_refused(self):
        self.start(kind="internal")
        connection = self.connect()
        self.addCleanup(connection.close)
        for method, params in (("network.attach", {"machine": "m", "nic": "n", "mac": "52:54:00:00:00:01"}),
                               ("network.attach", {"machine": 1}), ("network.forward", {"add": ["tcp:1:a:2"]}),
                               ("network.forward", {"add": [1]}), ("network.start", {"name": "lan"}),
                               ("kill", {}), ("nonsense", {})):
            with self.assertRaises(RuntimeError):
                connection.call(method, **params)
        with open("/dev/null", "rb") as file:
            with self.assertRaisesRegex(RuntimeError, "mac: expected an address"):
                connection.call("network.attach", file.fileno(), machine="m", nic="n", mac="52:54")
        self.assertEqual(self.query()["ports"], [])


if __name__ == "__main__":
    unittest.main()
