#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Going on from a state that takes long to read: how far it is, and giving it up."""
import os
import signal
import struct
import sys
import time
import unittest

import pexpect

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(ANIMA)), "lib", "api"))

MASK = (1 << 64) - 1
PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
HEAD = struct.Struct("<IHHIIQQ")  # of a section, see vmm/state/stream_format.h
EMPTY = 1000000  # sections of RAM without pages


def rotate(value, by):
    value &= MASK
    return (value << by | value >> (64 - by)) & MASK


def xxh64(data):
    """As its specification has it (github.com/Cyan4973/xxHash), for 32 bytes and more, seed 0."""
    one, two, three, four, five = PRIMES
    lanes, at = [one + two, two, 0, -one], 0
    while at + 32 <= len(data):
        for i, word in enumerate(struct.unpack_from("<4Q", data, at)):
            lanes[i] = rotate(lanes[i] + word * two, 31) * one
        at += 32
    result = sum(rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18)))
    for lane in lanes:
        result = (result ^ rotate(lane * two, 31) * one) * one + four
    result += len(data)
    for at in range(at, len(data) - 7, 8):
        word = struct.unpack_from("<Q", data, at)[0]
        result = rotate(result ^ rotate(word * two, 31) * one, 27) * one + four
    at = len(data) & ~7
    if len(data) & 4:
        word = struct.unpack_from("<I", data, at)[0]
        result = rotate(result ^ word * one, 23) * two + three
        at += 4
    for byte in data[at:]:
        result = rotate(result ^ byte * five, 11) * one
    result &= MASK
    result = (result ^ result >> 33) * two & MASK
    result = (result ^ result >> 29) * three & MASK
    return result ^ result >> 32


def section(name, version, content):
    head = [0x54434553, len(name), 0, version, 0, len(content)]
    return HEAD.pack(*head, xxh64(HEAD.pack(*head, 0) + name + content)) + name + content


class Restore(AnimaTest):
    def setUp(self):
        super().setUp()
        os.environ.update(ANIMA_RUNTIME_DIR=self.runtime, ANIMA_DATA_DIR=self.data)
        self.path = os.path.join(self.folder, "state")
        session = self.greeted()
        self.assertEqual(self.anima("state", "save", "test", self.path).returncode, 0)
        session.send("q")
        self.assert_ends(session, 0)

    def make_long(self):
        """More of the state, which is right but for its end: nobody gets there in a second."""
        empty = section(b"ram", 1, struct.pack("<QII4Q", 0, 1, 0, 0, 0, 0, 0))
        with open(self.path, "r+b") as stream:
            whole = stream.read()
            end = len(whole) - HEAD.size - len("end") - 8
            self.assertEqual(whole[end:], section(b"end", 1, whole[-8:]))
            stream.seek(end)
            stream.write(empty * EMPTY)

    def spawn(self, *words):
        session = pexpect.spawn(ANIMA, list(words), env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        return session

    def assert_given_up(self, session, words):
        """At the bar; nothing of it is left once the command has ended."""
        session.expect(r"\r\[#* *\] +\d+ %")
        session.sendintr()
        session.expect(pexpect.EOF)
        session.close()
        self.assertRegex(session.before, r"\r +\r" + words + "$")
        self.assertEqual(self.anima("list", "--running", "--names").stdout, "")

    def test_a_bar_that_is_interrupted(self):
        self.make_long()
        session = self.spawn("run", "--state", self.path)
        self.assert_given_up(session, "")
        self.assertEqual(session.signalstatus, signal.SIGINT)
        self.assert_nothing_left()

    def test_in_the_background(self):
        kept = self.anima("create", "kept", "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft",
                          "--state", self.path)
        self.assertEqual((kept.returncode, kept.stderr), (0, ""))
        self.assertEqual(self.anima("start", "kept").returncode, 0)
        self.assertEqual(self.query("kept")["state"], "running")
        self.anima("kill", "kept")
        self.assert_nothing_left()
        self.make_long()
        session = self.spawn("start", "kept")
        self.assert_given_up(session, "anima: kept: given up; it is not running\r\n")
        self.assertEqual(session.exitstatus, 1)

    def begin(self, library):
        definition = library.Definition.create()
        definition.load_state(self.path)
        definition.set("serial", "none")
        return library.Machine.start_begin(definition)

    def test_steps(self):
        import anima  # pylint: disable=import-outside-toplevel
        machine = self.begin(anima)
        while machine.start_step(10)[0]:
            pass
        self.assertEqual(machine.start_step(), (0, 0, 0))
        self.assertEqual(self.query()["state"], "running")
        machine.close()
        self.assert_nothing_left()

    def test_another_client_cancels_it(self):
        import anima  # pylint: disable=import-outside-toplevel
        self.make_long()
        machine, known = self.begin(anima), []
        wait_for(lambda: known.append(machine.start_step(1)) or known[-1][2], "how much there is")
        self.assertEqual((known[-1][0], known[-1][2]), (1, os.path.getsize(self.path)))
        wait_for(lambda: machine.start_step(1)[1] > known[-1][1], "more")
        other = anima.Machine.connect("test")
        self.assertIn('"method": "start"', other.call("job.list"))
        other.call("job.cancel", '{"job": 1}')
        with self.assertRaises(anima.Error) as raised:
            machine.start_step()
        self.assertEqual(raised.exception.code, anima.Code.CANCELLED)
        self.assertIn("the start was cancelled", str(raised.exception))
        other.close()
        machine.close()

    def test_whoever_goes_gives_it_up(self):
        import anima  # pylint: disable=import-outside-toplevel
        self.make_long()
        machine, then = self.begin(anima), time.monotonic()
        machine.start_step(1)
        machine.close()
        self.assert_nothing_left()
        self.assertLess(time.monotonic() - then, PATIENCE)


if __name__ == "__main__":
    unittest.main()
