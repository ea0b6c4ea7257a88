#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""anima-nat without a guest: this program speaks Ethernet over the socket pair in its place."""
import array
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import time
import unittest

NAT = os.environ["ANIMA_NAT"]
PATIENCE = 10
LINK_FD = 3
MAC = bytes.fromhex("525400123456")
BROADCAST = b"\xff" * 6
GATEWAY, RESOLVER, GUEST = "10.0.2.2", "10.0.2.3", "10.0.2.15"


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def pseudo(source, target, protocol, length):
    return socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!HH", protocol, length)


def ip_packet(source, target, protocol, payload):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0,
                         socket.inet_aton(source), socket.inet_aton(target))
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp_packet(source, target, source_port, target_port, data):
    header = struct.pack("!HHHH", source_port, target_port, 8 + len(data), 0)
    total = checksum(pseudo(source, target, 17, 8 + len(data)) + header + data) or 0xffff
    return ip_packet(source, target, 17, header[:6] + struct.pack("!H", total) + data)


def fragment(number, offset, data, flags, hops=64, wrong=False):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), number, offset // 8 | flags, hops, 17, 0,
                         socket.inet_aton(GUEST), socket.inet_aton(GATEWAY))
    return header[:10] + struct.pack("!H", checksum(header) ^ wrong) + header[12:] + data


class Segment:
    """A TCP segment that came."""

    def __init__(self, packet):
        start = (packet[0] & 15) * 4
        self.source = socket.inet_ntoa(packet[12:16])
        total, = struct.unpack("!H", packet[2:4])
        tcp = packet[start:total]
        (self.source_port, self.target_port, self.sequence, self.acknowledged, offset,
         self.flags) = struct.unpack("!HHIIBB", tcp[:14])
        self.data = tcp[(offset >> 4) * 4:]
        self.good = checksum(pseudo(self.source, socket.inet_ntoa(packet[16:20]), 6, len(tcp)) + tcp) == 0


SYN, ACK, PUSH, RESET, FIN = 2, 16, 8, 4, 1


class Guest:
    """The guest's end of a helper's cable."""

    def __init__(self, *forwards, hostname="box", mtu=1500):
        self.cable, self.frames = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.cable.settimeout(PATIENCE)
        self.start(forwards, hostname, mtu)

    def start(self, forwards=(), hostname="box", mtu=1500):
        """Start a helper, the first or another one, on the pair."""
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

        def place():
            os.dup2(theirs.fileno(), LINK_FD)

        self.process = subprocess.Popen([NAT, "nat"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, pass_fds=(LINK_FD,), preexec_fn=place)
        theirs.close()
        self.link.settimeout(PATIENCE)
        request = {"jsonrpc": "2.0", "id": 1, "method": "start",
                   "params": {"hostname": hostname, "mtu": mtu, "forward": list(forwards)}}
        self.link.sendmsg([json.dumps(request).encode() + b"\n"],
                          [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.frames.fileno()]))])
        self.answer = json.loads(self.link.makefile().readline())

    def close(self):
        for end in self.link, self.cable, self.frames:
            end.close()
        self.process.wait(PATIENCE)

    def send(self, packet, target=b"\x52\x55\x0a\x00\x02\x02"):
        self.cable.send(target + MAC + b"\x08\x00" + packet)

    def receive(self, wanted):
        """The first frame for which wanted() gives something; answers questions for our address."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            frame = self.cable.recv(70000)
            kind, = struct.unpack("!H", frame[12:14])
            if kind == 0x0806 and frame[20:22] == b"\0\1" and frame[38:42] == socket.inet_aton(GUEST):
                self.cable.send(frame[6:12] + MAC + b"\x08\x06" + frame[14:20] + b"\0\2" + MAC +
                                socket.inet_aton(GUEST) + frame[22:32])
            found = wanted(kind, frame[14:])
            if found is not None:
                return found
        raise AssertionError("nothing of that came")

    def segment(self, port):
        def wanted(kind, packet):
            if kind == 0x0800 and packet[9] == 6:
                segment = Segment(packet)
                return segment if segment.target_port == port else None
            return None
        return self.receive(wanted)

    def tcp(self, port, target_port, sequence, acknowledged, flags, data=b"", target=GATEWAY):
        header = struct.pack("!HHIIBBHHH", port, target_port, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
        total = checksum(pseudo(GUEST, target, 6, len(header) + len(data)) + header + data)
        self.send(ip_packet(GUEST, target, 6, header[:16] + struct.pack("!HH", total, 0) + data))

    def connect(self, target_port, port=1000):
        """Open a connection to the host; the next sequence numbers, ours and theirs."""
        self.tcp(port, target_port, 100, 0, SYN)
        segment = self.segment(port)
        assert segment.flags == SYN | ACK and segment.good, segment.flags
        self.tcp(port, target_port, 101, segment.sequence + 1, ACK)
        return 101, segment.sequence + 1


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nat(unittest.TestCase):
    def guest(self, *forwards, **options):
        guest = Guest(*forwards, **options)
        self.addCleanup(guest.close)
        self.assertEqual(guest.answer.get("error"), None)
        return guest

    def server(self):
        server = socket.create_server(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        self.addCleanup(server.close)
        return server

    def test_the_gateway_answers_arp(self):
        guest = self.guest()
        guest.cable.send(BROADCAST + MAC + b"\x08\x06" + bytes.fromhex("0001080006040001") + MAC +
                         socket.inet_aton(GUEST) + bytes(6) + socket.inet_aton(GATEWAY))
        answer = guest.receive(lambda kind, packet: packet if kind == 0x0806 and packet[7] == 2 else None)
        self.assertEqual(answer[14:18], socket.inet_aton(GATEWAY))

    def test_dhcp_gives_address_router_resolver_and_name(self):
        guest = self.guest(hostname="a-box")
        discover = struct.pack("!BBBBIHH4s4s4s4s", 1, 1, 6, 0, 0x1234, 0, 0, *[bytes(4)] * 4) + MAC + bytes(202)
        discover += b"\x63\x82\x53\x63\x35\x01\x01\xff"
        guest.cable.send(BROADCAST + MAC + b"\x08\x00" +
                         udp_packet("0.0.0.0", "255.255.255.255", 68, 67, discover))
        reply = guest.receive(lambda kind, packet: packet[28:] if kind == 0x0800 and packet[9] == 17 and
                              packet[22:24] == b"\0\x44" else None)
        self.assertEqual(socket.inet_ntoa(reply[16:20]), GUEST)
        options, rest = {}, reply[240:]
        while rest and rest[0] != 255:
            options[rest[0]] = rest[2:2 + rest[1]]
            rest = rest[2 + rest[1]:]
        self.assertEqual(options[3], socket.inet_aton(GATEWAY))
        self.assertEqual(options[6], socket.inet_aton(RESOLVER))
        self.assertEqual(options[12], b"a-box")

    def test_the_hosts_loopback_is_the_gateway(self):
        server, guest = self.server(), self.guest()
        ours, theirs = guest.connect(server.getsockname()[1])
        host, _ = server.accept()
        with host:
            guest.tcp(1000, server.getsockname()[1], ours, theirs, ACK | PUSH, b"hello")
            self.assertEqual(host.recv(100), b"hello")
            host.sendall(b"world")
            while not (segment := guest.segment(1000)).data:
                continue
            self.assertEqual((segment.data, segment.good), (b"world", True))

    def test_a_segment_beyond_the_mtu_is_taken_whole(self):
        server, guest = self.server(), self.guest()
        ours, theirs = guest.connect(server.getsockname()[1])
        host, _ = server.accept()
        data = os.urandom(60000)
        with host:
            host.settimeout(PATIENCE)
            guest.tcp(1000, server.getsockname()[1], ours, theirs, ACK | PUSH, data)
            got = b""
            while len(got) < len(data):
                got += host.recv(65536)
            self.assertEqual(got, data)

    def test_a_tcp_forward_reaches_the_guest(self):
        port = free_port()
        guest = self.guest(f"tcp:{port}:22")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            syn = guest.segment(22)
            self.assertEqual((syn.flags, syn.source, syn.good), (SYN, GATEWAY, True))
            guest.tcp(22, syn.source_port, 7, syn.sequence + 1, SYN | ACK)
            client.sendall(b"knock")
            while not (segment := guest.segment(22)).data:
                continue
            self.assertEqual(segment.data, b"knock")

    def test_a_udp_forward_goes_both_ways(self):
        port = free_port(socket.SOCK_DGRAM)
        guest = self.guest(f"udp:127.0.0.1:{port}:{GUEST}:53")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.sendto(b"ask", ("127.0.0.1", port))
            packet = guest.receive(lambda kind, packet: packet if kind == 0x0800 and packet[9] == 17 else None)
            source_port, target_port = struct.unpack("!HH", packet[20:24])
            self.assertEqual((target_port, packet[28:]), (53, b"ask"))
            guest.send(udp_packet(GUEST, socket.inet_ntoa(packet[12:16]), 53, source_port, b"answer"))
            self.assertEqual(client.recvfrom(100), (b"answer", ("127.0.0.1", port)))

    def test_a_thousand_connections_wait_at_once(self):
        port = free_port()
        self.guest(f"tcp:{port}:80")
        clients = []
        for _ in range(1000):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            clients.append(client)
        end = time.monotonic() + PATIENCE
        waiting = clients
        while waiting and time.monotonic() < end:
            time.sleep(0.01)
            waiting = [client for client in waiting if not is_connected(client)]
        self.assertEqual(len(waiting), 0)
        for client in clients:
            client.close()

    def test_a_port_that_is_taken_is_told(self):
        server = self.server()
        port = server.getsockname()[1]
        guest = Guest(f"tcp:{port}:22")
        guest.close()
        self.assertEqual(guest.process.returncode, 1)
        self.assertIn(f"forward tcp 127.0.0.1:{port}: Address already in use", guest.answer["error"]["message"])

    def test_a_udp_port_that_is_taken_is_told(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            guest = Guest(f"udp:{other.getsockname()[1]}:22")
            guest.close()
        self.assertIn("Address already in use", guest.answer["error"]["message"])

    def test_it_is_confined(self):
        guest = self.guest()
        with open(f"/proc/{guest.process.pid}/status", encoding="utf-8") as status:
            lines = dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)
        self.assertEqual(lines["NoNewPrivs"], "1")
        self.assertEqual(lines["Seccomp"], "2")
        self.assertEqual(int(lines["CapEff"], 16) | int(lines["CapPrm"], 16) | int(lines["CapInh"], 16), 0)
        self.assertNotIn("0", lines["Uid"].split())

    def test_nonsense_does_no_harm(self):
        guest = self.guest()
        source = random.Random(3)
        for _ in range(3000):
            kind = source.choice([b"\x08\x00", b"\x86\xdd", b"\x08\x06", source.randbytes(2)])
            length = source.choice([0, 1, 20, 40, 100, 1500])
            body = bytearray(source.randbytes(length))
            if kind == b"\x08\x00" and length >= 20:
                body[0], body[9] = 0x45, source.choice([1, 6, 17, 2])
                body[2:4] = struct.pack("!H", length)
                body[6:8] = source.choice([b"\0\0", b"\x20\0", b"\x1f\xff"])
                body[10:12] = b"\0\0"
                body[10:12] = struct.pack("!H", checksum(bytes(body[:20])))
            guest.cable.send(BROADCAST + MAC + kind + bytes(body))
        self.assertIsNone(guest.process.poll())
        server = self.server()
        guest.connect(server.getsockname()[1])

    def test_a_first_fragment_that_is_dropped_does_no_harm(self):
        """libslirp falls over a first fragment that comes after another one of its packet."""
        for damage in "sum", "hops", "flag":
            guest, data = self.guest(), b"a" * 1480
            if damage == "flag":
                guest.send(fragment(7, 0, data, 0x2000))
                guest.send(fragment(7, 0, b"x" * 8, 0x8000))
            else:
                guest.send(fragment(7, 0, data, 0x2000, hops=0 if damage == "hops" else 64,
                                    wrong=damage == "sum"))
            guest.send(fragment(7, 1480, data, 0))
            guest.send(fragment(7, 0, data, 0x2000))
            guest.connect(self.server().getsockname()[1])

    def test_a_guest_that_takes_all_descriptors_makes_no_busy_helper(self):
        port = free_port()
        guest, server = self.guest(f"tcp:{port}:80"), self.server()
        server.listen(4096)
        for number in range(4200):
            guest.tcp(1000 + number, server.getsockname()[1], 100, 0, SYN)
            while select.select([guest.cable], [], [], 0)[0]:
                guest.cable.recv(70000)
        end = time.monotonic() + PATIENCE
        while len(os.listdir(f"/proc/{guest.process.pid}/fd")) < 4000 and time.monotonic() < end:
            time.sleep(0.05)
        clients = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(10)]
        before = used_seconds(guest.process.pid)
        time.sleep(0.5)
        self.assertLess(used_seconds(guest.process.pid) - before, 0.25)
        self.assertIsNone(guest.process.poll())
        for client in clients:
            client.close()

    def test_it_ends_with_its_monitor(self):
        guest = Guest()
        guest.link.close()
        self.assertEqual(guest.process.wait(PATIENCE), 0)
        guest.close()

    def test_another_one_takes_over_the_cable(self):
        """As after a crash: a connection is reset, a new one works, on the same pair of sockets."""
        server, guest = self.server(), self.guest()
        ours, theirs = guest.connect(server.getsockname()[1])
        guest.process.send_signal(signal.SIGKILL)
        guest.process.wait()
        guest.tcp(1000, server.getsockname()[1], ours, theirs, ACK | PUSH, b"lost")
        guest.link.close()
        guest.start()
        while guest.segment(1000).flags & RESET == 0:
            continue
        guest.connect(server.getsockname()[1], port=1001)


def used_seconds(pid):
    """Processor time of a process."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_connected(client):
    try:
        client.getpeername()
        return True
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main()
