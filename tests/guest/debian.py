# SPDX-License-Identifier: Apache-2.0
"""A guest with the Debian root file system of `make run` on a virtio disk, for tests: boots it, runs
commands in its shell, and looks at the disk afterwards."""
import argparse
import bz2
import functools
import gzip
import json
import lzma
import os
import re
import select
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(HERE, "../../scripts")
os.environ["PATH"] += ":/usr/sbin:/sbin"
# What the guest answers to: without echo, prompt and line editing, output is what commands say.
PLAIN_SHELL = "stty -echo; unset HISTFILE; exec env PS1= PS2= dash"


def skip(reason):
    print(f"SKIP {reason}")
    sys.exit(77)


@functools.cache
def guest_root(kind):
    """The folder of a root file system, its kernel and its initrd; prepared if it is not there."""
    given = os.environ.get(f"ANIMA_{kind.upper()}")
    if given:
        return given
    result = subprocess.run([os.path.join(SCRIPTS, "guest-root"), kind], capture_output=True, text=True,
                            check=False)
    if result.returncode == 77:
        skip(result.stderr.strip().splitlines()[-1])
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout.strip()


def debian():
    """That of `make run`."""
    return guest_root("debian")


def cloud():
    """The one like an image for clouds: cloud.img, vmlinuz and initrd."""
    return guest_root("cloud")


def fresh_disk(folder):
    """A copy of the root file system's image in `folder`."""
    path = os.path.join(folder, "root.img")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", debian() + "/root.img", path],
                   check=True)
    return path


def e2fsck(disk):
    """Check the file system as it lies; status and words. 0 is clean."""
    result = subprocess.run(["e2fsck", "-f", "-p", disk], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def examples_of(anima, command):
    """What --help of a command shows how to do, as lines for a shell."""
    text = subprocess.run([anima, "help", command], capture_output=True, text=True, check=True).stdout
    part = text.partition("\nexamples:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in part.splitlines() if not line.startswith("  #")]


def source(package):
    """The source of a Debian package, as its authors pack it: the path of an archive."""
    result = subprocess.run([os.path.join(SCRIPTS, "guest-image"), "source", package],
                            capture_output=True, text=True, check=False)
    if result.returncode == 77:
        skip(result.stderr.strip().splitlines()[-1])
    if result.returncode:
        sys.exit(result.stderr)
    return result.stdout.strip()


def source_disk(folder, *packages):
    """A disk in `folder` with the sources of packages on it, as PACKAGE.tar (not compressed: the guest
    may have no program for that)."""
    tree = os.path.join(folder, "sources")
    os.mkdir(tree)
    for package in packages:
        archive = source(package)
        opener = {".gz": gzip, ".xz": lzma, ".bz2": bz2}[os.path.splitext(archive)[1]]
        with opener.open(archive) as packed, open(f"{tree}/{package}.tar", "wb") as plain:
            shutil.copyfileobj(packed, plain)
    disk = os.path.join(folder, "sources.img")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "64M"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return disk


class Console:
    """The shell of a Debian guest on its serial console, from power-on to its end. A context manager."""
    append = "console=ttyS0 quiet panic=-1 root=/dev/vda anima.term=dumb "

    def __init__(self, command, patience):
        self.output = ""
        self.unread = ""
        self.patience = patience
        started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.expect(r"root@anima:~# ")
        self.boot_seconds = time.monotonic() - started
        self.send(PLAIN_SHELL)
        self.run("true")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and kind is not SystemExit:
            print("the console's end:\n" + self.output[-3000:])
        self.kill()

    def kill(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def fail(self, why):
        self.kill()
        sys.exit(f"{why}; the console's end:\n" + self.output[-3000:])

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, pattern, seconds=None):
        """Read until the pattern appears; what stands before it is given up. The match."""
        end = time.monotonic() + (seconds or self.patience)
        while not (match := re.search(pattern, self.unread, re.MULTILINE)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            raw = self.process.stdout.read1() if ready else b""
            if not raw:
                self.fail(f"the console never showed {pattern!r}" if ready else
                          f"the console did not show {pattern!r} in time")
            text = raw.decode(errors="replace").replace("\r", "")
            self.output += text
            self.unread += text
        self.unread = self.unread[match.end():]
        return match

    def run(self, command, status=0, seconds=None):
        """Run a command in the guest's shell; what it said, if it ends with `status`."""
        # In braces: the shell has read it all before the command can take its input away.
        self.send(f"{{ {command}\n}}; echo \"<end $?>\"")
        match = self.expect(r"\A((?:.|\n)*?)<end (\d+)>\n", seconds)
        if status is not None and int(match[2]) != status:
            self.fail(f"{command!r} ended with status {match[2]}, not {status}, saying {match[1]!r}")
        return match[1]

    def write(self, path, text):
        """A small text file in the guest."""
        self.run(f"cat >{path} <<'END'\n{text}\nEND")

    def power_off(self):
        self.send("poweroff")
        self.ended(0)

    def ended(self, status):
        """The run ends by itself with this status."""
        try:
            raw, _ = self.process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            self.fail("the machine did not end")
        self.output += raw.decode(errors="replace").replace("\r", "")
        if self.process.returncode != status:
            self.fail(f"the run ended with status {self.process.returncode}, not {status}")


class Debian(Console):
    """One in Anima."""

    def __init__(self, options, disk, nic=None, extra=(), wrapper=(), memory="1G"):
        self.name = f"debian-{os.getpid()}-{time.monotonic_ns()}"
        self.anima = options.anima
        nics = ["--nic", nic] if nic else []
        super().__init__(
            [*wrapper, options.anima, "run", "--name", self.name, "--engine", options.engine,
             "--memory", memory, "--cpus", str(options.cpus), "--kernel", debian() + "/vmlinuz",
             "--initrd", debian() + "/initrd", "--disk", disk, *nics,
             "--append", self.append + options.append, *extra], options.patience)

    def wait_for_network(self):
        """Until eth0 has an address by DHCP: the prompt does not wait for it."""
        self.run("/lib/systemd/systemd-networkd-wait-online --interface=eth0 --ipv4 --timeout=60")

    def query(self):
        said = subprocess.run([self.anima, "query", self.name, "--json"], capture_output=True, text=True,
                              check=True)
        return json.loads(said.stdout)


def main(description, cases, arguments=()):
    """Run the case that the command line names. `arguments`: what else it may say, with defaults."""
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anima")
    parser.add_argument("case", choices=cases)
    parser.add_argument("--engine", default="soft", choices=["soft", "kvm"])
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--append", default="", help="more parameters for the kernel")
    parser.add_argument("--patience", type=float, default=120, help="seconds to wait for the guest")
    for name, preset in arguments:
        parser.add_argument(name, type=type(preset), default=preset)
    options = parser.parse_args()
    if options.engine == "kvm" and not os.path.exists("/dev/kvm"):
        skip("no /dev/kvm here")
    cases[options.case](options)
