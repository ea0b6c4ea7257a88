#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""create, edit, show, list, delete: machines as folders."""
import json
import os
import unittest

import pexpect

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest


class Definitions(AnimaTest):
    def create(self, name="web", *options):
        self.good("create", name, "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", *options)

    def machines(self):
        return json.loads(self.good("list", "--json"))

    def path(self, name="web", file="vm.yaml"):
        return os.path.join(self.data, name, file)

    def assert_nothing_kept(self):
        self.assertEqual(os.listdir(self.data) if os.path.exists(self.data) else [], [])

    # ---- create ----

    def test_a_machine_is_a_folder(self):
        self.create("web", "--append", "quiet")
        with open(self.path(), encoding="utf-8") as stream:
            self.assertEqual(stream.read(), self.good("show", "web"))
        shown = json.loads(self.good("show", "web", "--json"))
        self.assertEqual((shown["name"], shown["memory"], shown["append"]), ("web", 64 << 20, "quiet"))
        self.assertEqual(os.listdir(self.data), ["web"])

    def test_what_must_stay_is_written_down(self):
        self.create("web", "--nic", "none")
        shown = self.good("show", "web")
        self.assertIn("machine: anima-1\n", shown)
        self.assertRegex(shown, r"(?m)^cpu: x86-64-v[1-4]-[1-9]$")
        mac = json.loads(self.good("show", "web", "--json"))["nic"][0]["mac"]
        self.assertIn(f"mac: {mac}\n", shown)
        self.assertRegex(shown, "id: nic0\n *address: 00:03.0\n")
        # Under another name it is the same card.
        os.rename(os.path.join(self.data, "web"), os.path.join(self.data, "www"))
        self.assertEqual(json.loads(self.good("show", "www", "--json"))["nic"][0]["mac"], mac)

    def test_a_processor_that_the_host_lacks_is_told_at_the_start(self):
        # The software CPU has neither of them.
        self.create("web", "--cpu", "EPYC-Rome")
        self.assertIn("cpu: EPYC-Rome-1\n", self.good("show", "web"))
        result = self.anima("start", "web")
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, "^anima: web: .*'EPYC-Rome-1' needs clwb, .*clzero.* cannot give on this host")

    def test_a_definition_without_a_model_goes_on_as_before(self):
        self.create("web")
        with open(self.path(), encoding="utf-8") as stream:
            text = stream.read()
        with open(self.path(), "w", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in text.splitlines() if not line.startswith("cpu:"))
        self.good("start", "web")
        self.assertRegex(self.query("web")["cpu"], r"^x86-64-v[1-4]-\d+$")
        self.good("kill", "web")

    def test_what_runs_stays_where_it_is(self):
        """Nobody can make another one in its place while a deletion is being refused."""
        self.create("web")
        self.good("start", "web")
        before = os.stat(self.data).st_mtime_ns
        self.assertIn("the machine is running", self.anima("delete", "--yes", "web").stderr)
        self.assertEqual(os.stat(self.data).st_mtime_ns, before)
        self.good("kill", "web")
        self.good("delete", "--yes", "web")
        self.assertEqual(os.listdir(self.data), [])

    def test_paths_are_kept_from_where_they_were_said(self):
        kernel = os.path.join(self.folder, "kernel")
        os.symlink(PAYLOAD, kernel)
        self.good("create", "web", "--kernel", "kernel", "--disk", "a.img,readonly", cwd=self.folder)
        shown = json.loads(self.good("show", "web", "--json", cwd="/"))
        self.assertEqual(shown["kernel"], kernel)
        self.assertEqual(shown["disk"][0]["file"], os.path.join(self.folder, "a.img"))

    def test_from_a_file(self):
        path = os.path.join(self.folder, "small.yaml")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("memory: 32M\nkernel: kernel\ncpus: 2\n")
        self.good("create", "web", path, "--cpus", "3")
        shown = json.loads(self.good("show", "web", "--json"))
        self.assertEqual((shown["memory"], shown["cpus"]), (32 << 20, 3))
        self.assertEqual(shown["kernel"], os.path.join(self.folder, "kernel"))

    def test_a_name_is_taken_once(self):
        self.create("web")
        before = self.good("show", "web")
        self.assert_refused(1, "web: a machine of this name is there already", "create", "web",
                            "--kernel", "/other")
        self.assertEqual(self.good("show", "web"), before)

    def test_wrong_words_keep_nothing(self):
        for status, message, words in (
                (2, "--memory: expected a size such as 512M, not 'much'", ["web", "--memory", "much"]),
                (2, "name: expected a name of up to 64", ["../web", "--kernel", PAYLOAD]),
                (2, "--name: the machine's name is the first word",
                 ["web", "--kernel", PAYLOAD, "--name", "x"]),
                (2, "kernel: nothing to boot", ["web"]),
                (2, "unknown option --kernle; did you mean --kernel?", ["web", "--kernle", "x"]),
                (2, "--disk: unknown member 'seriell'; did you mean 'serial'?",
                 ["web", "--disk", "a,seriell=x"]),
                (2, "usage: anima create NAME", []),
                (1, "/nonexistent.yaml: No such file", ["web", "/nonexistent.yaml"])):
            self.assert_refused(status, message, "create", *words)
            self.assert_nothing_kept()

    def test_the_same_fault_in_a_file_and_in_words(self):
        path = os.path.join(self.folder, "vm.yaml")
        for option, value, phrase in (
                ("memory", "much", "expected a size such as 512M, not 'much'"),
                ("cpus", "5000", "5000 is more than the 64 that this version can do"),
                ("engine", "kvn", "'kvn' is none of auto, kvm, soft; did you mean 'kvm'?"),
                ("paused", "perhaps", "expected yes or no, not 'perhaps'"),
                ("nic", "usr", "network: 'usr' is none of user, tap=NAME, bridge=NAME, switch=NAME, none; did you mean 'user'?")):
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(f"# a comment\n{option}: {value}\n")
            self.assert_refused(2, f"--{option}: {phrase}", "create", "web", f"--{option}={value}")
            self.assert_refused(2, f"vm.yaml:2:{len(option) + 3}: {option}: {phrase}", "create", "web", path)
        self.assert_nothing_kept()

    # ---- import ----

    def test_import(self):
        path = os.path.join(self.folder, "web.xml")
        features = json.loads(self.good("version", "--features", "--json"))
        if "import" not in features["helpers"]:
            self.assert_refused(1, "import: this build reads no descriptions of others", "import", path)
            self.skipTest("this build has no libxml2")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(f"<domain><name>web</name><memory unit='MiB'>64</memory><os><kernel>{PAYLOAD}</kernel></os>"
                         "<devices><disk><driver type='qed'/><source file='/c'/></disk><disk>"
                         "<source file='a.img'/></disk><graphics/></devices></domain>")
        result = self.anima("import", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.splitlines(), [
            "anima: not carried over: disk /c: the format 'qed'; convert it to a raw file",
            "anima: not carried over: graphics"])
        shown = json.loads(self.good("show", "web", "--json"))
        self.assertEqual((shown["kernel"], shown["memory"]), (PAYLOAD, 64 << 20))
        self.assertEqual([disk["file"] for disk in shown["disk"]], [os.path.join(self.folder, "a.img")])
        # Another name, and options that count.
        self.assertEqual(self.anima("import", path, "other", "--memory", "32M").returncode, 0)
        self.assertIn("memory: 32M\n", self.good("show", "other"))
        result = self.anima("import", path)
        self.assertEqual(result.returncode, 1)
        self.assertIn("web: a machine of this name is there already", result.stderr)

    def test_import_of_what_is_none(self):
        features = json.loads(self.good("version", "--features", "--json"))
        if "import" not in features["helpers"]:
            self.skipTest("this build has no libxml2")
        path = os.path.join(self.folder, "x.cfg")
        for content, message in (b"name = 'a'\nmemory = [\n", f"{path}:3:1: expected a text or a number"), \
                (b"<domain><name>x", f"{path}:1:16: Premature end of data"), \
                (b"\x7fELF\x00", f"{path}:1:1: this is no description of a machine that is known"):
            with open(path, "wb") as stream:
                stream.write(content)
            self.assert_refused(2, message, "import", path, "web")
        self.assert_refused(1, "/nonexistent: No such file", "import", "/nonexistent")
        with open(path, "w", encoding="ascii") as stream:
            stream.write("memory = 64\nkernel = '/k'\n")
        self.assert_refused(2, "name: a machine that is kept has one", "import", path)
        self.assert_nothing_kept()

    # ---- defaults by guest ----

    def test_defaults_by_guest(self):
        features = json.loads(self.good("version", "--features", "--json"))
        if "osinfo" not in features["helpers"]:
            self.assert_refused(1, "os: this build knows no guests by name", "create", "a", "--os", "debian12")
            self.skipTest("this build has no libosinfo")
        self.good("create", "a", "--kernel", PAYLOAD, "--os", "debian12", "--disk", "/a")
        shown = self.good("show", "a")
        for line in "os: debian12", "memory: 2G", "- virtio-rng":
            self.assertIn(f"{line}\n", shown)
        # What is given counts.
        self.good("create", "b", "--os", "http://debian.org/debian/12", "--kernel", PAYLOAD, "--memory", "64M",
                  "--cpus", "3", "--device", "pvpanic")
        shown = json.loads(self.good("show", "b", "--json"))
        self.assertEqual((shown["memory"], shown["cpus"], shown["device"]), (64 << 20, 3, ["pvpanic"]))
        result = self.anima("create", "c", "--os", "win11", "--kernel", PAYLOAD, "--disk", "/a", "--nic", "none")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.splitlines(), [
            f"anima: {option}: Microsoft Windows 11 brings no driver for virtio {what}; it needs one from elsewhere"
            for option, what in (("disk", "disks"), ("nic", "network cards"))])
        self.assert_refused(2, "os: the database (osinfo-db) has no guest 'debin12'; did you mean 'debian12'?",
                            "create", "d", "--os", "debin12", "--kernel", PAYLOAD)
        self.assert_refused(2, "--os: expected the name of a guest such as debian12, not 'a b'",
                            "create", "d", "--os", "a b", "--kernel", PAYLOAD)
        self.assertEqual(sorted(os.listdir(self.data)), ["a", "b", "c"])

    # ---- show ----

    def test_show_all(self):
        self.create()
        shown = self.good("show", "web", "--all")
        for line in "name: web", "on-crash: exit", "memory: 64M":
            self.assertIn(f"{line}\n", shown)

    def test_show_keeps_what_the_user_wrote(self):
        self.create()
        text = f"# mine\nkernel: {PAYLOAD}   # the payload\nmemory:    64M\n"
        with open(self.path(), "w", encoding="utf-8") as stream:
            stream.write(text)
        self.assertEqual(self.good("show", "web"), text)

    def test_machines_that_are_not_there(self):
        for words in ["show", "nobody"], ["show", "nobody", "--json"], ["delete", "nobody", "--yes"], \
                ["delete", "nobody"], ["run", "nobody"]:
            self.assert_refused(1, "nobody: no machine of this name is defined", *words)
        self.assert_refused(2, "name: expected a name", "show", "../etc")

    def test_a_name_that_is_not_the_folders(self):
        self.create()
        with open(self.path(), "a", encoding="utf-8") as stream:
            stream.write("name: other\n")
        self.assert_refused(2, "vm.yaml: name: 'other' is not the name of its folder", "show", "web", "--json")

    # ---- edit ----

    def edit(self, status, *words, editor="false", message=""):
        """The outcome of `anima edit`; an editor is shell words."""
        self.env["EDITOR"] = editor
        self.env.pop("VISUAL", None)
        self.env["TMPDIR"] = self.folder
        result = self.anima("edit", "web", *words)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertIn(message, result.stderr)
        self.assertEqual(result.stdout, "")
        return result.stderr

    def test_edit_by_words_keeps_comments(self):
        self.create()
        text = (f"# mine\nkernel: {PAYLOAD}   # the payload\nmemory:    64M # enough\n"
                "disk:\n  - /a # first\n\n# how many\ncpus: 2\n")
        with open(self.path(), "w", encoding="utf-8") as stream:
            stream.write(text)
        self.edit(0, "memory=128M", "cpus=", "append=quiet: yes")
        self.assertEqual(self.good("show", "web"),
                         text.replace("64M", "128M").replace("cpus: 2\n", "append: 'quiet: yes'\n"))
        self.edit(0, "disk+=b.img,readonly", "disk-=/a")
        self.assertEqual(json.loads(self.good("show", "web", "--json"))["disk"][0]["file"], os.path.abspath("b.img"))
        self.assertIn("# how many\n", self.good("show", "web"))

    def test_wrong_words_change_nothing(self):
        self.create("web", "--append", "x")
        before = self.good("show", "web")
        for message, words in (
                ("memory: expected a size such as 512M, not 'much'", ["cpus=2", "memory=much"]),
                ("unknown option 'mem'; did you mean 'memory'?", ["mem=1G"]),
                ("expected OPTION=VALUE", ["memory"]),
                ("memory: this is no list", ["memory+=1G"]),
                ("disk: there is no entry '/a'", ["disk-=/a"]),
                ("name: a kept machine has the name of its folder", ["name=other"]),
                ("append: there is no kernel to take it", ["kernel="])):
            self.assertEqual(self.edit(2, *words, message=message).count("\n"), 1)
            self.assertEqual(self.good("show", "web"), before)

    def test_edit_in_an_editor(self):
        self.create()
        before = self.good("show", "web")
        self.edit(0, editor="sed -i -e '1i # by hand' -e s/64M/65M/")
        self.assertEqual(self.good("show", "web"), "# by hand\n" + before.replace("64M", "65M"))
        self.edit(0, editor="true", message="nothing was changed")
        self.assertEqual(os.listdir(self.folder), ["data"])

    def test_a_faulty_text_replaces_nothing_and_is_not_lost(self):
        self.create()
        before = self.good("show", "web")
        stderr = self.edit(2, editor="sed -i s/64M/much/", message="vm.yaml:4:9: memory: expected a size")
        copy = stderr.rsplit(" ", 1)[1].strip()
        with open(copy, encoding="utf-8") as stream:
            self.assertEqual(stream.read(), before.replace("64M", "much"))
        os.unlink(copy)
        # Options that do not fit together are told with the place of one.
        copy = self.edit(2, editor="sed -i -e '$a module: /m' -e '$a initrd: /i'",
                         message="vm.yaml:6:1: module: a kernel takes either").rsplit(" ", 1)[1].strip()
        os.unlink(copy)
        self.edit(1, editor="false", message="the editor failed")
        self.assertEqual(self.good("show", "web"), before)
        self.assertEqual(os.listdir(self.folder), ["data"])

    def test_a_faulty_text_can_be_edited_again(self):
        self.create()
        self.env["EDITOR"] = "sed -i -e s/much/32M/ -e s/64M/much/"
        session = pexpect.spawn(ANIMA, ["edit", "web"], env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.expect(r"memory: expected a size.*edit it again\? \[Y/n\] ")
        session.sendline("")
        self.assert_ends(session, 0)
        self.assertIn("memory: 32M\n", self.good("show", "web"))

    def test_two_who_edit_at_once(self):
        self.create()
        stderr = self.edit(1, editor=f"sh -c '{ANIMA} edit web cpus=2; echo \"# late\" >> $1' x",
                           message="somebody else has changed it meanwhile")
        self.assertIn("cpus: 2\n", self.good("show", "web"))
        self.assertNotIn("late", self.good("show", "web"))
        with open(stderr.rsplit(" ", 1)[1].strip(), encoding="utf-8") as stream:
            self.assertIn("# late\n", stream.read())

    # ---- list ----

    def test_list_shows_those_that_run_and_those_that_do_not(self):
        self.create("off")
        self.create("on")
        self.create("faulty")
        with open(self.path("faulty"), "w", encoding="utf-8") as stream:
            stream.write("memory: much\n")
        session = pexpect.spawn(ANIMA, ["run", "on"], env=self.env, timeout=PATIENCE, encoding="utf-8")
        self.sessions.append(session)
        session.expect("hello")
        self.greeted(name="loose")
        machines = {machine["name"]: machine for machine in self.machines()}
        self.assertEqual(list(machines), ["faulty", "loose", "off", "on"])
        self.assertEqual({name: (machine["state"], machine["defined"]) for name, machine in machines.items()},
                         {"faulty": ("faulty", True), "loose": ("running", False), "off": ("off", True),
                          "on": ("running", True)})
        self.assertEqual((machines["off"]["memory"], machines["off"]["cpus"]), (64 << 20, 1))
        self.assertIn("vm.yaml:1:9: memory: expected a size", machines["faulty"]["problem"])
        table = self.anima("list")
        self.assertEqual(table.returncode, 0)
        self.assertEqual([line.split()[:2] for line in table.stdout.splitlines()],
                         [["NAME", "STATE"], ["faulty", "faulty"], ["loose", "running"], ["off", "off"],
                          ["on", "running"]])
        self.assertIn("vm.yaml:1:9: memory: expected a size", table.stderr)
        self.assertEqual(self.good("list", "--names", "--running"), "loose\non\n")

    def test_a_table_fits_the_terminal(self):
        self.create("m" * 64)
        for width in 60, 30:
            session = pexpect.spawn(ANIMA, ["list"], env=self.env, timeout=PATIENCE, encoding="utf-8",
                                    dimensions=(24, width))
            session.expect(pexpect.EOF)
            lines = session.before.splitlines()
            self.assertEqual([len(line) for line in lines], [width, width])
            self.assertIn("…", lines[1])
        self.assertIn("m" * 64, self.good("list"))

    # ---- delete ----

    def test_delete_takes_the_folder(self):
        self.create()
        with open(self.path(file="nvram"), "wb"):
            pass
        self.good("delete", "web", "--yes")
        self.assert_nothing_kept()

    def test_delete_asks(self):
        self.create()
        self.assert_refused(2, "there is no terminal to ask on; say --yes", "delete", "web")
        for answer, status, left in ("n", 1, ["web"]), ("", 1, ["web"]), ("yes", 0, []):
            session = pexpect.spawn(ANIMA, ["delete", "web"], env=self.env, timeout=PATIENCE, encoding="utf-8")
            session.expect(r"delete the machine 'web', with all that is in .*/web\? \[y/N\] ")
            session.sendline(answer)
            self.assert_ends(session, status)
            self.assertEqual(os.listdir(self.data), left)

    def test_a_machine_that_runs_is_not_deleted(self):
        self.create()
        session = pexpect.spawn(ANIMA, ["run", "web"], env=self.env, timeout=PATIENCE, encoding="utf-8")
        self.sessions.append(session)
        session.expect("hello")
        result = self.anima("delete", "web", "--yes")
        self.assertEqual(result.returncode, 1)
        self.assertIn("web: the machine is running; stop it first", result.stderr)
        self.good("show", "web", "--json")
        session.send("q")
        self.assert_ends(session, 0)
        self.good("delete", "web", "--yes")
        self.assert_nothing_kept()


if __name__ == "__main__":
    unittest.main()
