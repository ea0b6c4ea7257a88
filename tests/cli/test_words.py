#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input gets one line and status 1 or 2, and leaves nothing behind."""
import json
import os
import socket
import subprocess
import unittest

import pexpect

from anima_test import PATIENCE, PAYLOAD, AnimaTest


class Words(AnimaTest):
    def file(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())
        return path

    def run_refused(self, status, message, *options):
        self.assert_refused(status, message, "run", *options)

    def kernel_refused(self, message, content):
        path = self.file("kernel", content)
        self.run_refused(1, message, "--engine", "soft", "--kernel", path)

    def test_unknown_command(self):
        self.assert_refused(2, "there is no command 'frobnicate'", "frobnicate")

    def test_unknown_option_names_the_nearest(self):
        self.run_refused(2, "unknown option --memroy; did you mean --memory?", "--memroy", "1G")

    def test_unknown_option_of_another_command(self):
        self.assert_refused(2, "unknown option --memory", "list", "--memory", "1G")

    def test_missing_value(self):
        self.run_refused(2, "--memory: SIZE is missing", "--memory")

    def test_too_many_words(self):
        self.run_refused(2, "usage: anima run", "a", "b")

    def test_memory_out_of_range(self):
        for size in "0", "3", "3 bytes", "100T", "-1", "99999999999999999999T":
            self.run_refused(2, "--memory: ", "--kernel", PAYLOAD, f"--memory={size}")

    def test_memory_beyond_the_host(self):
        self.run_refused(2, "that this host has", "--kernel", PAYLOAD, "--memory", "508G")

    def test_cpus_out_of_range(self):
        for cpus in "0", "5000", "x":
            self.run_refused(2, "--cpus: ", "--kernel", PAYLOAD, "--cpus", cpus)

    def test_unknown_cpu_model_lists_those_that_there_are(self):
        result = self.anima("run", "--engine", "soft", "--kernel", PAYLOAD, "--cpu", "i8086")
        self.assertEqual(result.returncode, 2)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("i8086", result.stderr)
        self.assertIn("x86-64-v2", result.stderr)

    def test_unknown_choices(self):
        self.run_refused(2, "--engine: 'kvn' is none of", "--engine", "kvn")
        self.run_refused(2, "--device: 'floppy' is none of", "--device", "pvpanic,floppy")
        self.run_refused(2, "--on-crash: 'explode' is none of", "--on-crash", "explode")

    def nic_refused(self, status, message, nic):
        self.run_refused(status, message, "--engine", "soft", "--kernel", PAYLOAD, "--nic", nic)

    def test_networks_that_cannot_be(self):
        self.nic_refused(2, "--nic: network: 'usr' is none of user, tap=NAME, bridge=NAME, switch=NAME, none; did you mean 'user'?", "usr")
        self.nic_refused(2, "--nic: network: 'tap=' is none of", "tap=")
        self.nic_refused(2, "--nic: unknown member 'mca'; did you mean 'mac'?", "user,mca=52:54:00:12:34:56")
        for mac in "52:54:00:12:34", "01:00:5e:00:00:01", "00:00:00:00:00:00", "52-54-00-12-34-56", "x":
            self.nic_refused(2, "--nic: mac: expected the address of one station", f"user,mac={mac}")
        self.nic_refused(2, "--nic: mtu: 67 is less than the minimum of 68", "user,mtu=67")
        for forward in "tcp:80", "sctp:80:80", "tcp:80:0", "tcp:80:65536", "tcp:1.2.3:80:80", "tcp:80:80:80", "tcp":
            self.nic_refused(2, "--nic: forward: expected tcp or udp:", f"user,forward={forward}")
        self.nic_refused(2, "--nic: rate: 1 byte is less than the minimum of 1K", "user,rate=1")
        self.nic_refused(2, "--nic: link: 'on' is none of up, down", "user,link=on")
        self.nic_refused(2, "no interface can have such a name", "tap=a-name-that-is-too-long")

    def test_too_many_or_equal_networks(self):
        self.run_refused(2, "9 are more than the 8 that a machine can have", "--kernel", PAYLOAD,
                         *["--nic", "none"] * 9)
        self.run_refused(2, "another card has this address", "--kernel", PAYLOAD,
                         *["--nic", "none,mac=52:54:00:00:00:01"] * 2)
        self.run_refused(2, "another card is plugged in there", "--kernel", PAYLOAD,
                         *["--nic", "tap=same"] * 2)

    def test_a_tap_that_is_not_there(self):
        self.nic_refused(1, "nic: tap=nosuch0: there is no such interface; as root: ip tuntap add dev nosuch0 "
                         "mode tap user ", "tap=nosuch0")

    def test_an_interface_that_is_no_tap(self):
        self.nic_refused(1, "nic: tap=lo: this interface is no TAP", "tap=lo")

    def test_a_port_that_is_taken(self):
        features = json.loads(self.anima("version", "--features", "--json").stdout)
        if "nat" not in features["helpers"]:
            self.nic_refused(1, "this build has no NAT (libslirp)", "user")
            self.skipTest("this build has no NAT")
        for kind, protocol in (socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp"):
            with socket.socket(socket.AF_INET, kind) as other:
                other.bind(("127.0.0.1", 0))
                if protocol == "tcp":
                    other.listen()
                port = other.getsockname()[1]
                self.nic_refused(1, f"nic: forward {protocol} 127.0.0.1:{port}: Address already in use, by process "
                                 f"{os.getpid()} (python3)", f"user,forward={protocol}:{port}:80")

    def test_guest_words(self):
        self.assert_refused(2, "usage: anima guest NAME info|addresses", "guest", "x")
        self.assert_refused(2, "there is no 'frob'", "guest", "x", "frob")
        self.assert_refused(2, "usage: anima guest", "guest", "x", "info", "more")
        self.assert_refused(2, "exec -- COMMAND", "guest", "x", "exec")
        self.assert_refused(2, "--timeout: expected a number of seconds, not '0'", "guest", "x", "freeze",
                            "--timeout", "0")
        self.assert_refused(2, "either --reboot or --halt", "guest", "x", "shutdown", "--halt", "--reboot")
        self.assert_refused(1, "--input: ", "guest", "x", "exec", "--input", "/nonexistent", "--", "cat")
        self.assert_refused(1, "no machine called 'x' is running", "guest", "x", "info")
        self.run_refused(2, "port: org.qemu.guest_agent.0: it is the port of the option agent", "--kernel",
                         PAYLOAD, "--agent", "--port", "org.qemu.guest_agent.0,pty")

    def test_a_guest_without_an_agent(self):
        session = self.greeted(name="none")
        for words in ["info"], ["exec", "--", "true"], ["freeze"], ["shutdown"]:
            said = self.anima("guest", "none", *words)
            self.assertEqual((said.returncode, said.stderr.count("\n")), (1, 1), said.stderr)
            self.assertIn("no port for a guest agent; define it with 'agent: yes'", said.stderr)
        self.assertEqual(self.query("none")["state"], "running")
        session.send("q")
        self.assert_ends(session, 0)

    def test_nothing_to_boot(self):
        self.run_refused(2, "nothing to boot")
        self.run_refused(2, "append: there is no kernel to take it", "--append", "quiet")

    def test_missing_files(self):
        self.run_refused(1, "kernel: /nonexistent: No such file", "--kernel", "/nonexistent")
        self.run_refused(1, "initrd: /nonexistent: No such file", "--kernel", PAYLOAD,
                         "--initrd", "/nonexistent")
        self.run_refused(1, "module: /nonexistent: No such file", "--kernel", PAYLOAD,
                         "--module", "/nonexistent with words")
        self.run_refused(1, "kernel: /: this is a folder", "--kernel", "/")
        self.run_refused(1, "kernel: /dev/null: this is not a regular file", "--kernel",
                         "/dev/null")

    def test_a_kernel_that_is_none(self):
        with open(PAYLOAD, "rb") as stream:
            elf = stream.read()
        self.kernel_refused("kernel", "just some text\n")
        self.kernel_refused("kernel", b"")
        # An ELF for another machine (e_machine is AArch64), and one cut short.
        self.kernel_refused("kernel", elf[:18] + b"\xb7\x00" + elf[20:64])
        self.kernel_refused("kernel", elf[:200])
        # A bzImage's header and nothing behind it.
        header = bytearray(1024)
        header[0x1F1] = 4
        header[0x1FE:0x200] = b"\x55\xaa"
        header[0x202:0x206] = b"HdrS"
        header[0x206:0x208] = b"\x0f\x02"
        self.kernel_refused("kernel", bytes(header))

    def test_an_initrd_that_does_not_fit(self):
        header = os.path.join(self.folder, "initrd")
        with open(header, "wb") as stream:
            stream.truncate(1 << 30)
        result = self.anima("run", "--engine", "soft", "--memory", "64M", "--kernel", PAYLOAD,
                            "--initrd", header)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("a memory of 64 MiB; give the machine more", result.stderr)

    def test_places_of_the_serial_line_that_cannot_be_had(self):
        self.run_refused(1, "serial: ", "--kernel", PAYLOAD, "--serial", "file=/nonexistent/f")
        self.run_refused(1, "serial: /nonexistent/s: No such file", "--kernel", PAYLOAD, "--serial",
                         "socket=/nonexistent/s")
        self.run_refused(1, "gdb: ", "--kernel", PAYLOAD, "--gdb", "/nonexistent/s")
        taken = self.file("taken", "mine")
        self.run_refused(1, "taken: is there already; remove it", "--kernel", PAYLOAD, "--serial",
                         f"socket={taken}")

    def test_a_failure_leaves_no_files(self):
        gdb = os.path.join(self.folder, "gdb")
        self.run_refused(1, "serial: ", "--kernel", PAYLOAD, "--gdb", gdb, "--serial",
                         "file=/nonexistent/f")
        self.assertFalse(os.path.exists(gdb))

    def test_yaml_with_a_wrong_type(self):
        path = self.file("vm.yaml", "name: a\n# comment\nmemory: [1G]\n")
        self.run_refused(2, "vm.yaml:3:9: memory: expected a size such as 512M, not a list", path)

    def test_yaml_with_an_unknown_key(self):
        path = self.file("vm.yaml", "kernle: x\n")
        self.run_refused(2, "vm.yaml:1:1: unknown option 'kernle'; did you mean 'kernel'?", path)

    def test_yaml_that_is_none(self):
        path = self.file("vm.yaml", "name: [b\n")
        self.run_refused(2, "vm.yaml:1:7: ", path)
        path = self.file("vm.yaml", b"\xff\xfe\x00\x01" * 100)
        self.run_refused(2, "vm.yaml:1:1: ", path)

    def test_yaml_that_is_missing(self):
        self.run_refused(1, "/nonexistent/vm.yaml: No such file", "/nonexistent/vm.yaml")
        self.run_refused(1, "no-such-machine: no machine of this name is defined", "no-such-machine")

    def test_commands_for_a_machine_that_is_not_there(self):
        for command in "query", "pause", "resume", "reset", "nmi", "stop", "kill":
            self.assert_refused(1, "no machine called 'nobody' is running", command, "nobody")
            self.assert_refused(2, "name: expected a name", command, "../etc")

    def test_state_dump_of_what_is_no_stream(self):
        path = self.file("stream", "this is no stream\n")
        self.assert_refused(1, f"{path}: stream: is none: this file was not written by Anima", "state", "dump", path)
        self.assert_refused(1, "/nonexistent: No such file", "state", "dump", "/nonexistent")
        self.assert_refused(2, "usage: anima state save", "state", "frob", "x")

    def test_stop_with_a_wrong_timeout(self):
        self.assert_refused(2, "--timeout: expected 0 to 86400", "stop", "x", "--timeout", "soon")

    def test_list_of_nothing(self):
        result = self.anima("list", "--json")
        self.assertEqual((result.returncode, json.loads(result.stdout)), (0, []))

    def test_help_names_every_option_and_command(self):
        text = self.anima("help").stdout
        for command in "run", "list", "query", "pause", "stop", "state", "version":
            self.assertIn(f"\n  {command} ", text)
        text = self.anima("run", "--help").stdout
        for option in ("--name", "--engine", "--cpu", "--cpus", "--memory", "--kernel", "--initrd",
                       "--module", "--append", "--serial", "--device", "--rng-rate", "--on-reboot", "--on-crash",
                       "--gdb"):
            self.assertIn(f"\n  {option} ", text)

    def test_version(self):
        self.assertRegex(self.anima("version").stdout, r"^anima \d+\.\d+\.\d+\n$")
        features = json.loads(self.anima("version", "--features", "--json").stdout)
        self.assertIn("soft", features["engines"])

    def test_completion_is_fish(self):
        script = self.anima("completion", "fish").stdout
        for line, expected in (("anima run --initr", ["--initrd=\tdisk"]), ("anima run --engine=s", ["--engine=soft"]),
                               ("anima pau", ["pause\tstop its CPUs and its clock"])):
            check = script + f"\ncomplete -C '{line}'\n"
            result = subprocess.run(["fish", "--no-config", "-c", check], capture_output=True, text=True, check=False,
                                    env=self.env)
            self.assertEqual([word.split("\t")[0].rstrip("=") for word in result.stdout.splitlines()],
                             [word.split("\t")[0].rstrip("=") for word in expected], result.stderr)

    def test_completion_is_zsh(self):
        script = os.path.join(self.folder, "_anima")
        with open(script, "w", encoding="utf-8") as stream:
            stream.write(self.anima("completion", "zsh").stdout)
        session = pexpect.spawn("zsh", ["-f", "-i"], env=dict(self.env, PS1="prompt> ", TERM="dumb"), timeout=PATIENCE,
                                encoding="utf-8", dimensions=(50, 200))
        self.sessions.append(session)
        session.expect("prompt> ")
        session.sendline(f"autoload -U compinit && compinit -u -D && source {script} && echo re''ady")
        session.expect("ready")
        session.expect("prompt> ")
        for begin, rest in ("anima run --memo", "ry"), ("anima run --engine so", "ft"), ("anima paus", "e"):
            session.send(begin + "\t")
            session.expect(begin + rest)
            session.send("\x15")

    def test_completion_of_another_shell(self):
        self.assert_refused(2, "completion: only bash, zsh and fish are known, not 'tcsh'", "completion", "tcsh")

    def test_completion_is_bash(self):
        script = self.anima("completion", "bash").stdout
        check = script + ("\nCOMP_WORDS=(anima run --initr) COMP_CWORD=2; _anima; "
                          "[ \"${COMPREPLY[*]}\" = --initrd ] || exit 1\n"
                          "COMP_WORDS=(anima run --engine s) COMP_CWORD=3; _anima; "
                          "[ \"${COMPREPLY[*]}\" = soft ] || exit 2\n"
                          "COMP_WORDS=(anima pau) COMP_CWORD=1; _anima; "
                          "[ \"${COMPREPLY[*]}\" = pause ] || exit 3\n"
                          "COMP_WORDS=(anima edit web initr) COMP_CWORD=3; _anima; "
                          "[ \"${COMPREPLY[*]}\" = initrd= ] || exit 4\n"
                          "COMP_WORDS=(anima change web nic0 netw) COMP_CWORD=4; _anima; "
                          "[ \"${COMPREPLY[*]}\" = network= ] || exit 5\n"
                          "COMP_WORDS=(anima change web mem) COMP_CWORD=3; _anima; "
                          "[ \"${COMPREPLY[*]}\" = '' ] || exit 6\n")
        result = subprocess.run(["bash", "-c", check], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
