# SPDX-License-Identifier: Apache-2.0
"""What the tests of the command line share: running `anima` in a runtime folder of its own, and
making sure that nothing of a machine is left when it has ended."""
import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

import pexpect

ANIMA = os.environ["ANIMA"]
PAYLOAD = os.environ["ANIMA_PAYLOAD"]
CTRL_BRACKET = "\x1d"
PATIENCE = float(os.environ.get("ANIMA_TEST_PATIENCE", 30))


def wait_for(condition, what, seconds=PATIENCE):
    """Poll until condition() is true; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def processes(marker):
    """Ids of the processes that have `marker` in their environment or are owned by such."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as environ:
                if marker.encode() in environ.read() and int(entry) != os.getpid():
                    found.append(int(entry))
        except OSError:
            continue
    return found


class AnimaTest(unittest.TestCase):
    """One test with a runtime folder of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="anima-test-")
        self.runtime = os.path.join(self.folder, "run")
        self.data = os.path.join(self.folder, "data")
        self.env = dict(os.environ, ANIMA_RUNTIME_DIR=self.runtime, ANIMA_DATA_DIR=self.data)
        self.sessions = []

    def tearDown(self):
        for session in self.sessions:
            session.close(force=True)
        try:
            self.assert_nothing_left()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def assert_nothing_left(self):
        """No process, no socket, no folder of any machine of this test."""
        wait_for(lambda: not processes(self.runtime), "the end of all processes", 10)
        wait_for(lambda: not os.path.exists(self.runtime) or not os.listdir(self.runtime),
                 "the end of the machine's folder", 10)

    def anima(self, *words, stdin=subprocess.DEVNULL, program=ANIMA, **options):
        """Run a command to its end."""
        return subprocess.run([program, *words], stdin=stdin, capture_output=True, text=True,
                              env=self.env, timeout=PATIENCE, check=False, **options)

    def good(self, *words, **options):
        """The command succeeds and says nothing on standard error; its output."""
        result = self.anima(*words, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), words)
        return result.stdout

    def kill_all(self):
        """End all machines that run."""
        for name in self.anima("list", "--running", "--names").stdout.split():
            self.anima("kill", name)

    def make_disk(self, name, size=1 << 20):
        """An image without content; its path."""
        path = os.path.join(self.folder, name)
        with open(path, "wb") as stream:
            stream.truncate(size)
        return path

    def prepare_another_user(self):
        """What an ordinary user needs, in folders that he may read: the program, the payload, and
        the words for anima() that make it run as him. SKIP without the right to."""
        if os.geteuid() != 0:
            self.skipTest("only root can become another user")
        nobody = pwd.getpwnam("nobody")
        # The build tree may be closed to others: they get a copy, laid out as a build is.
        build = os.path.dirname(os.path.dirname(ANIMA))
        copy = os.path.join(self.folder, "build")
        for folder, name in ("cli", "anima"), ("vmm", "anima-vmm"), ("lib", "libanima.so.0"):
            os.makedirs(os.path.join(copy, folder))
            shutil.copy(os.path.join(build, folder, name), os.path.join(copy, folder, name))
        payload = shutil.copy(PAYLOAD, os.path.join(copy, "payload"))
        os.chmod(self.folder, 0o755)
        self.runtime = os.path.join(self.folder, "nobody")
        os.mkdir(self.runtime, 0o700)
        os.chown(self.runtime, nobody.pw_uid, nobody.pw_gid)
        self.env["ANIMA_RUNTIME_DIR"] = self.runtime
        return (os.path.join(copy, "cli", "anima"), payload,
                {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []})

    def assert_refused_with(self, status, message, *words):
        """The command fails with this status and one line that contains `message`; machines may run."""
        result = self.anima(*words)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        self.assertIn(message, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def assert_refused(self, status, message, *words):
        """The same, and no machine is there."""
        self.assert_refused_with(status, message, *words)
        self.assert_nothing_left()

    def start(self, *options, name="test"):
        """`anima run` of the payload on a terminal of its own, until it says hello."""
        session = pexpect.spawn(
            ANIMA, ["run", "--name", name, "--engine", "soft", "--memory", "64M", "--kernel",
                    PAYLOAD, *options], env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        return session

    def greeted(self, *options, name="test"):
        session = self.start(*options, name=name)
        session.expect("hello")
        return session

    def assert_ends(self, session, status):
        """The session ends by itself with this status; negative: by this signal."""
        session.expect(pexpect.EOF)
        words = session.before
        session.close()
        got = session.exitstatus if session.signalstatus is None else -session.signalstatus
        self.assertEqual(got, status, words)

    def query(self, name="test"):
        result = self.anima("query", name, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def connect(self, name="test"):
        """A raw connection to the machine's control socket."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(os.path.join(self.runtime, name, "control"))
        connection.settimeout(PATIENCE)
        return connection
