# SPDX-License-Identifier: Apache-2.0
"""Many machines in folders of their own, for what is measured beside them; and the accounts of processes."""
import json
import os
import shutil
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ANIMA = os.path.join(HERE, "../build/cli/anima")
PAYLOAD = os.path.join(HERE, "../build/tests/guest/payloads/payload-idle")


def cpu_ms(pid):
    """Milliseconds of CPU time of a process: of its threads, those that have ended too (the clock that
    clock_getcpuclockid(3) would give), and of its children that have ended."""
    own = time.clock_gettime((~pid << 3) | 2)
    with open(f"/proc/{pid}/stat", encoding="ascii") as text:
        fields = text.read().rpartition(")")[2].split()
    return (own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")) * 1e3


def family(pid):
    """The process and all below it."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as text:
            for child in text.read().split():
                found += family(int(child))
    return found


def switches(pid):
    """How often its threads were given a processor."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as lines:
            total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def pss_kib(pid):
    """Its share of memory in KiB, guest RAM included as far as the guest has touched it."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class Fleet:
    """`defined` machines, of which the first `running` run. A context manager."""

    def __init__(self, anima, defined, running, *options):
        self.anima, self.options = anima, options
        self.folder = tempfile.mkdtemp(prefix="anima-bench-")
        self.env = dict(os.environ, ANIMA_DATA_DIR=self.folder + "/data", ANIMA_RUNTIME_DIR=self.folder + "/run")
        self.names = [f"machine-{number:03}" for number in range(defined)]
        self.up = self.names[:running]

    def __enter__(self):
        try:
            for name in self.names:
                self.call("create", name, "--engine", "soft", "--memory", "32M", "--kernel", PAYLOAD, "--append",
                          "idle", "--device", "virtio-rng", *self.options)
            begin = time.monotonic()
            if self.up:
                self.call("start", *self.up)
            print(f"{len(self.up)} machines were started in {time.monotonic() - begin:.2f} s")
            for name in self.up:
                self.await_guest(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run([self.anima, "stop", "--all", "--timeout", "0"], env=self.env, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *words):
        return subprocess.run([self.anima, *words], env=self.env, check=True, stdout=subprocess.PIPE).stdout

    def await_guest(self, name):
        """Until the guest has said that it runs, which is about its first instruction."""
        path = f"{self.folder}/data/{name}/console.log"
        while not os.path.exists(path) or b"ready" not in open(path, "rb").read():
            time.sleep(0.002)

    def processes(self, name):
        """Monitor, vmm and helpers of a running machine."""
        return family(json.loads(self.call("query", name, "--json"))["monitor_pid"])
