#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`anima run` on a terminal: the serial line, every way to end, and the terminal restored after
each of them."""
import os
import signal
import socket
import subprocess
import termios
import time
import unittest

import pexpect

from anima_test import ANIMA, CTRL_BRACKET, PAYLOAD, PATIENCE, AnimaTest, wait_for

LFLAG = 3


def is_raw(session):
    return not termios.tcgetattr(session.child_fd)[LFLAG] & termios.ICANON


def read(path):
    """The file's content, empty when there is no such file."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return b""


class Terminal(AnimaTest):
    def keeping_terminal(self, *options):
        """A shell on a new terminal with `anima run` in it, so that the terminal outlives the
        command and can be looked at. Returns the session when the guest has said hello."""
        command = " ".join([ANIMA, "run", "--name", "test", "--engine", "soft", "--memory", "64M",
                            "--kernel", PAYLOAD, *options])
        session = pexpect.spawn("/bin/sh", ["-c", f"{command}; echo status $?; read hold"],
                                env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        session.expect("hello")
        wait_for(lambda: is_raw(session), "raw mode")
        return session

    def assert_restored(self, session, status):
        """The command has ended with `status` and the terminal is as it was."""
        session.expect(r"status (\d+)\r\n")
        self.assertEqual(int(session.match[1]), status)
        self.assertFalse(is_raw(session))
        attributes = termios.tcgetattr(session.child_fd)
        self.assertTrue(attributes[LFLAG] & termios.ECHO)
        self.assertTrue(attributes[1] & termios.OPOST)
        session.sendline("")
        session.expect("\r\n")

    def pid_of_command(self, session):
        """The process of `anima run`: the only child of the shell on that terminal."""
        with open(f"/proc/{session.pid}/task/{session.pid}/children", encoding="ascii") as children:
            return int(children.read().split()[0])

    def test_bytes_go_both_ways(self):
        session = self.greeted()
        session.send("abd!")
        session.expect("abd!")
        session.send("q")
        self.assert_ends(session, 0)

    def test_control_c_and_z_go_to_the_guest(self):
        session = self.greeted()
        session.send("\x03\x1a\x1c!")
        session.expect("\x03\x1a\x1c!")
        session.send("q")
        self.assert_ends(session, 0)

    def test_power_off(self):
        session = self.keeping_terminal()
        session.send("q")
        self.assert_restored(session, 0)

    def test_leaving(self):
        session = self.keeping_terminal()
        session.send(CTRL_BRACKET)
        self.assert_restored(session, 0)
        self.assert_nothing_of_the_machine()

    def assert_nothing_of_the_machine(self):
        self.assertEqual(self.anima("list").stdout, "")
        self.assertFalse(os.path.exists(os.path.join(self.runtime, "test")))

    def test_triple_fault(self):
        session = self.keeping_terminal()
        session.send("c")
        session.expect("anima: ")
        self.assert_restored(session, 3)

    def test_reported_crash(self):
        session = self.keeping_terminal("--device", "pvpanic")
        session.send("p")
        self.assert_restored(session, 3)

    def test_debug_exit(self):
        session = self.keeping_terminal("--device", "isa-debug-exit")
        session.send("x")
        self.assert_restored(session, 43)

    def test_crash_under_pause(self):
        session = self.greeted("--on-crash", "pause")
        session.send("c")
        session.expect("anima: the guest crashed")
        self.assertEqual(self.query()["state"], "crashed")
        self.assertEqual(self.anima("resume", "test").returncode, 1)
        self.assertEqual(self.anima("kill", "test").returncode, 0)
        self.assert_ends(session, 0)

    def test_crash_under_restart(self):
        session = self.greeted("--on-crash", "restart")
        session.send("c")
        session.expect("hello")
        session.send("q")
        self.assert_ends(session, 0)

    def test_reboot_restarts(self):
        session = self.greeted("--append", "again")
        session.send("r")
        session.expect("hello again")
        session.send("q")
        self.assert_ends(session, 0)

    def test_reboot_under_exit(self):
        session = self.keeping_terminal("--on-reboot", "exit")
        session.send("r")
        self.assert_restored(session, 0)

    def test_death_of_the_vmm(self):
        session = self.keeping_terminal()
        os.kill(self.query()["pid"], signal.SIGKILL)
        session.expect("anima: the vmm was killed by signal 9")
        self.assert_restored(session, 1)

    def test_death_of_the_monitor(self):
        session = self.keeping_terminal()
        status = self.query()
        os.kill(status["monitor_pid"], signal.SIGKILL)
        session.expect("anima: the machine's monitor has gone")
        self.assert_restored(session, 1)
        wait_for(lambda: not os.path.exists(f"/proc/{status['pid']}"), "the end of the vmm")
        # What the monitor left is no obstacle to the next machine of that name, which clears it.
        again = self.greeted()
        again.send("q")
        self.assert_ends(again, 0)

    def test_death_of_the_command(self):
        session = self.greeted()
        status = self.query()
        os.kill(session.pid, signal.SIGKILL)
        for pid in status["pid"], status["monitor_pid"]:
            wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), "the end of the machine")
        session.close()
        self.assert_nothing_of_the_machine()

    def test_signals_end_the_machine(self):
        for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT:
            with self.subTest(number):
                session = self.keeping_terminal()
                os.kill(self.pid_of_command(session), number)
                self.assert_restored(session, 128 + number)
                session.close(force=True)
                self.assert_nothing_of_the_machine()

    def test_a_hung_up_terminal_ends_the_machine(self):
        session = self.greeted()
        status = self.query()
        session.close(force=False)
        wait_for(lambda: not os.path.exists(f"/proc/{status['pid']}"), "the end of the vmm")

    def test_stop_and_continue(self):
        session = self.keeping_terminal()
        pid = self.pid_of_command(session)
        os.kill(pid, signal.SIGTSTP)
        wait_for(lambda: not is_raw(session), "the terminal's own mode while stopped")
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: is_raw(session), "raw mode again")
        session.send("ok")
        session.expect("ok")
        session.send("q")
        self.assert_restored(session, 0)

    def test_a_failed_start_leaves_the_terminal(self):
        session = pexpect.spawn("/bin/sh", ["-c", f"{ANIMA} run --kernel /nonexistent; "
                                            "echo status $?; read hold"],
                                env=self.env, timeout=PATIENCE, encoding="utf-8")
        self.sessions.append(session)
        session.expect("anima: kernel: /nonexistent: No such file or directory\r\n")
        self.assert_restored(session, 1)

    def test_a_program_that_is_missing(self):
        self.env["ANIMA_LIBEXEC"] = "/nonexistent"
        self.assert_refused(1, "anima-vmm is not in /nonexistent", "run", "--kernel", PAYLOAD)

    def test_a_program_that_cannot_be_executed(self):
        program = os.path.join(self.folder, "anima-vmm")
        with open(program, "w", encoding="ascii") as stream:
            stream.write("this is no program")
        os.chmod(program, 0o755)
        self.env["ANIMA_LIBEXEC"] = self.folder
        self.assert_refused(1, "anima-vmm cannot be started", "run", "--kernel", PAYLOAD)

    def test_pipes_instead_of_a_terminal(self):
        result = subprocess.run([ANIMA, "run", "--engine", "soft", "--memory", "64M", "--kernel",
                                 PAYLOAD], input=b"a\x1dbq", capture_output=True, env=self.env,
                                timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(result.stdout.endswith(b"a\x1dbq"), result.stdout)

    def test_a_long_output_is_complete(self):
        text = b"0123456789abdf" * 2000
        result = subprocess.run([ANIMA, "run", "--engine", "soft", "--memory", "64M", "--kernel",
                                 PAYLOAD], input=text + b"q", capture_output=True, env=self.env,
                                timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(text + b"q" in result.stdout, result.stdout[-100:])

    def test_serial_in_a_file(self):
        path = os.path.join(self.folder, "log")
        session = self.start("--serial", f"file={path}")
        wait_for(lambda: b"hello" in read(path), "output")
        self.assertFalse(is_raw(session))
        os.kill(session.pid, signal.SIGINT)
        self.assert_ends(session, -signal.SIGINT)

    def test_serial_in_a_fifo_that_nobody_reads(self):
        path = os.path.join(self.folder, "fifo")
        os.mkfifo(path)
        session = self.start("--serial", f"file={path}")
        session.expect(r"anima: serial: .*/fifo: nobody reads from this FIFO; start its reader "
                       r"first\r\n")
        self.assert_ends(session, 1)

    def test_serial_on_a_pty(self):
        session = self.start("--serial", "pty")
        session.expect(r"anima: serial is (/dev/pts/\d+)\r\n")
        name = session.match[1]
        self.assertEqual(self.query()["ptys"], {"serial": name})
        line = os.open(name, os.O_RDWR | os.O_NOCTTY)
        os.write(line, b"!")
        got = b""
        while b"!" not in got:
            got += os.read(line, 100)
        os.write(line, b"q")
        self.assert_ends(session, 0)
        os.close(line)

    def test_serial_on_a_socket(self):
        path = os.path.join(self.folder, "line")
        session = self.start("--serial", f"socket={path}")
        wait_for(lambda: os.path.exists(path), "the socket")
        # One client after the other.
        for byte in b"!", b"q":
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(PATIENCE)
            line.connect(path)
            line.sendall(byte)
            got = b""
            while byte not in got:
                got += line.recv(100)
            line.close()
        self.assert_ends(session, 0)
        self.assertFalse(os.path.exists(path))

    def test_debug_console(self):
        session = self.greeted("--device", "debugcon")
        session.send("e")
        session.expect("E\r\n")
        session.send("q")
        self.assert_ends(session, 0)

    def test_a_guest_cannot_speak_for_the_sandbox(self):
        session = self.greeted("--device", "debugcon")
        session.send("v")
        session.expect("v")
        session.send("q")
        self.assert_ends(session, 0)

    def test_a_paused_start(self):
        session = self.start("--paused")
        wait_for(lambda: self.anima("query", "test").returncode == 0, "the machine")
        self.assertEqual(self.query()["state"], "paused")
        self.assertEqual(self.query()["clock_ns"], 0)
        self.assertEqual(self.anima("resume", "test").returncode, 0)
        session.expect("hello")
        session.send("q")
        self.assert_ends(session, 0)

    def test_a_flood_on_the_debug_console(self):
        session = self.greeted("--device", "debugcon")
        session.send("F")
        # The console's lines come by way of the log, so they may stand between any two letters.
        session.expect(r"[.\r\n]*".join("flood over"))
        session.send("q")
        self.assert_ends(session, 0)

    def test_no_serial_line(self):
        session = self.start("--serial", "none")
        wait_for(lambda: self.anima("query", "test").returncode == 0, "the machine")
        self.assertFalse(is_raw(session))
        self.assertEqual(self.anima("kill", "test").returncode, 0)
        self.assert_ends(session, 0)

    def test_auto_says_which_engine(self):
        session = self.start("--engine", "auto")
        session.expect("anima: engine (soft|kvm): [^\r]+\r\n")
        time.sleep(0.1)
        session.send(CTRL_BRACKET)
        self.assert_ends(session, 0)


if __name__ == "__main__":
    unittest.main()
