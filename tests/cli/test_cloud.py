#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""create --cloud-image and ssh, as far as they go without a guest: what is made, what is refused, and
that nothing is left of what was refused or given up."""
import base64
import json
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import time
import unittest

import pexpect

from anima_test import ANIMA, PAYLOAD, PATIENCE, AnimaTest, wait_for

os.environ["PATH"] += ":/usr/sbin:/sbin"
MB = 1 << 20


def public_key(kind="ssh-ed25519", comment="me@here"):
    parts = b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), bytes(range(32))))
    return f"{kind} {base64.b64encode(parts).decode()} {comment}"


class Cloud(AnimaTest):
    def setUp(self):
        if "cloud" not in json.loads(subprocess.run([ANIMA, "version", "--features", "--json"], capture_output=True,
                                                    check=True).stdout)["helpers"]:
            self.skipTest("this build makes no seeds (libarchive)")
        super().setUp()
        self.home = os.path.join(self.folder, "home")
        os.makedirs(os.path.join(self.home, ".ssh"))
        self.env["HOME"] = self.home
        self.image = self.write("image.raw", b"\x33" * 4096 + bytes(3 * MB) + b"\x44" * 1000)

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())
        return path

    def words(self, *options, name="web", image=None):
        return ("create", name, "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", "--cloud-image",
                image or self.image, *options)

    def create(self, *options, **more):
        """The machine's definition."""
        words = self.words(*(options or ("--user", "me", "--ssh-key", public_key())), **more)
        result = self.anima(*words)
        self.assertEqual((result.returncode, result.stderr), (0, ""), words)
        return json.loads(self.anima("show", more.get("name", "web"), "--json").stdout)

    def refuse(self, status, message, *options, **more):
        self.assert_refused(status, message, *self.words(*options, **more))
        self.assertEqual(os.listdir(self.data) if os.path.exists(self.data) else [], [])

    def disk(self, name="root.img"):
        return os.path.join(self.data, "web", "disks", name)

    def read(self, path):
        with open(path, "rb") as stream:
            return stream.read()

    def seed(self, name):
        """A file of the seed, by a reader of somebody else's."""
        if not shutil.which("bsdtar"):
            self.skipTest("bsdtar is not installed (libarchive-tools)")
        return subprocess.run(["bsdtar", "-xOf", self.disk("seed.iso"), name], capture_output=True,
                              check=True).stdout.decode()

    # ---- what is made ----

    def test_the_disk_is_a_copy_that_has_grown(self):
        before = self.read(self.image)
        self.create("--disk-size", "20G", "--user", "me", "--ssh-key", public_key())
        status = os.stat(self.disk())
        self.assertEqual((status.st_size, stat.S_IMODE(status.st_mode)), (20 << 30, 0o600))
        self.assertLess(status.st_blocks * 512, 8 * MB)
        with open(self.disk(), "rb") as stream:
            self.assertEqual(stream.read(len(before) + 512), before + bytes(512))
        self.assertEqual(self.read(self.image), before)
        self.assertEqual(sorted(os.listdir(os.path.join(self.data, "web"))), ["disks", "vm.yaml"])
        self.assertEqual(os.listdir(self.data), ["web"])

    def test_without_a_size_it_ends_with_a_sector(self):
        self.create()
        length = os.stat(self.image).st_size
        self.assertEqual(os.stat(self.disk()).st_size, -(-length // 512) * 512)

    def test_what_the_guest_needs_is_in_the_definition(self):
        shown = self.create("--user", "me", "--ssh-key", public_key(), "--disk", "/more.img")
        files = [os.path.basename(disk["file"]) for disk in shown["disk"]]
        self.assertEqual(files, ["root.img", "more.img", "seed.iso"])
        self.assertEqual([disk["readonly"] for disk in shown["disk"]], [False, False, True])
        self.assertEqual((shown["nic"][0]["network"], shown["nic"][0]["forward"]), ("user", ["tcp:0:22"]))
        self.assertEqual((shown["device"], shown["agent"], shown["ssh-user"]), (["virtio-rng"], True, "me"))
        with open(os.path.join(self.data, "web", "vm.yaml"), encoding="utf-8") as stream:
            self.assertIn("file: disks/root.img\n", stream.read())

    def test_what_is_said_is_not_said_over(self):
        shown = self.create("--user", "me", "--ssh-key", public_key(), "--nic", "none", "--agent=no",
                            "--ssh-user", "admin", "--device", "pvpanic")
        self.assertEqual([nic["network"] for nic in shown["nic"]], ["none"])
        self.assertEqual((shown["agent"], shown["ssh-user"], shown["device"]),
                         (False, "admin", ["pvpanic", "virtio-rng"]))

    def test_the_seed_is_what_cloud_init_looks_for(self):
        self.create("--user", "me", "--ssh-key", public_key(), "--hostname", "w.example")
        label = subprocess.run(["blkid", "-o", "value", "-s", "LABEL", self.disk("seed.iso")],
                               capture_output=True, text=True, check=True).stdout
        self.assertEqual(label, "cidata\n")
        self.assertEqual(os.stat(self.disk("seed.iso")).st_size % 512, 0)
        first, _, rest = self.seed("user-data").partition("\n")
        self.assertEqual(first, "#cloud-config")
        self.assertEqual(json.loads(rest)["user"]["ssh_authorized_keys"], [public_key()])
        data = json.loads(self.seed("meta-data"))
        self.assertEqual(data["local-hostname"], "w.example")
        self.anima("delete", "web", "--yes")
        self.create()
        self.assertNotEqual(json.loads(self.seed("meta-data"))["instance-id"], data["instance-id"])

    def test_a_document_of_the_users_own_goes_along(self):
        text = "#cloud-config\n# \u00e9 \"{[\npackages: [nginx]\n" + "# filler\n" * 50000
        self.create("--user", "me", "--ssh-key", public_key(), "--user-data", self.write("document", text))
        self.assertEqual(self.seed("user-data"), text)
        self.assertIn('"name": "me"', self.seed("vendor-data"))

    def test_a_path_is_where_it_was_said(self):
        key = self.write("id.pub", public_key() + "\n")
        self.write("id", "secret")
        words = self.words("--user", "me", "--ssh-key", "id.pub", image="image.raw")
        result = self.anima(*words, cwd=self.folder)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        shown = json.loads(self.anima("show", "web", "--json").stdout)
        self.assertEqual(shown["ssh-identity"], key[:-len(".pub")])

    # ---- who ----

    def test_the_callers_only_key_is_taken_and_told(self):
        ssh = os.path.join(self.home, ".ssh")
        self.refuse(2, "ssh-key: nobody could log in", "--user", "me")
        self.write("home/.ssh/id_rsa.pub", public_key())
        self.refuse(2, "ssh-key: nobody could log in", "--user", "me")
        self.write("home/.ssh/id_rsa", "secret")
        result = self.anima(*self.words("--user", "me"))
        self.assertEqual((result.returncode, result.stderr),
                         (0, f"anima: the key {ssh}/id_rsa.pub lets 'me' in\n"))
        self.anima("delete", "web", "--yes")
        self.write("home/.ssh/id_ed25519", "secret")
        self.write("home/.ssh/id_ed25519.pub", public_key())
        self.refuse(2, "which of them?", "--user", "me")

    def test_root_says_who(self):
        if os.geteuid() == 0:
            self.refuse(2, "user: ", "--ssh-key", public_key())
        else:
            self.create("--ssh-key", public_key())

    # ---- refusals ----

    def test_words_are_refused(self):
        key = ("--ssh-key", public_key())
        self.refuse(2, "user: expected", "--user", "me: x", *key)
        self.refuse(2, "user: expected", "--user", "-oProxyCommand=x", *key)
        self.refuse(2, "ssh-key: ", "--user", "me", "--ssh-key", public_key() + "\nroot: yes")
        self.refuse(2, "ssh-key: no public key", "--user", "me", "--ssh-key", "ssh-rsa AAAAB3Nz")
        self.refuse(1, "ssh-key: nowhere.pub", "--user", "me", "--ssh-key", "nowhere.pub")
        self.refuse(2, "hostname: expected", "--user", "me", *key, "--hostname", "a b")
        self.refuse(2, "password-hash: expected", "--user", "me", "--password-hash", "secret")
        self.refuse(2, "disk-size: expected", "--user", "me", *key, "--disk-size", "big")
        self.refuse(2, "disk-size: the image has", "--user", "me", *key, "--disk-size", "1M")
        self.refuse(1, "user-data: ", "--user-data", self.write("document", "#" * (2 * MB)))
        self.refuse(2, "user-data: ", "--user-data", self.write("document", "packages: [a]\n"))
        self.assert_refused(2, "cloud-image: FILE is missing", "create", "web", "--kernel", PAYLOAD,
                            "--user", "me", *key)

    def test_images_that_are_none_are_refused(self):
        key = ("--user", "me", "--ssh-key", public_key())
        self.refuse(1, "cloud-image: /nowhere: No such file", *key, image="/nowhere")
        self.refuse(1, "not a regular file", *key, image=self.folder)
        self.refuse(1, "not a regular file", *key, image="/dev/null")
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        self.refuse(1, "not a regular file", *key, image=fifo)
        self.refuse(1, "empty", *key, image=self.write("empty", b""))
        for magic, what in ((b"KDMV", "VMDK"), (b"\xfd7zXZ\0", "xz -dk"),
                            (b"\x1f\x8b\x08", "gunzip"), (bytes(257) + b"ustar\0", "tar -xf"),
                            (b"vhdxfile", "VHDX"), (b"conectix", "VHD")):
            self.refuse(1, what, *key, image=self.write("other", magic + bytes(4096)))

    def test_an_image_that_a_machine_writes_to_is_refused(self):
        image = self.write("other.raw", bytes(MB))
        session = self.greeted("--disk", image)
        result = self.anima(*self.words("--user", "me", "--ssh-key", public_key(), image=image))
        self.assertEqual(result.returncode, 1)
        self.assertIn("a machine that runs writes to it", result.stderr)
        self.assertEqual(os.listdir(self.data) if os.path.exists(self.data) else [], [])
        session.send("\x1d")
        self.assert_ends(session, 0)
        session = self.greeted("--disk", image + ",readonly")
        self.create(image=image)
        session.send("\x1d")
        self.assert_ends(session, 0)

    def test_an_image_of_another_format_is_copied_as_it_is(self):
        key = ("--user", "me", "--ssh-key", public_key())
        image = self.write("other.qcow2", b"QFI\xfb" + bytes(70001))
        self.refuse(1, "say image-format qcow2", *key, image=image)
        self.refuse(1, "no qcow2 image", *key, "--image-format", "qcow2")
        self.refuse(2, "disk-size: an image that is not raw", *key, "--image-format", "qcow2", "--disk-size", "1G",
                    image=image)
        self.refuse(2, "image-format: ", *key, "--image-format", "vmdk", image=image)
        shown = self.create(*key, "--image-format", "qcow2", image=image)
        self.assertEqual((shown["disk"][0]["format"], self.read(self.disk("root.qcow2"))), ("qcow2", self.read(image)))

    def test_a_name_is_taken_once(self):
        self.create()
        before = self.read(self.disk())
        self.assert_refused(1, "is there already", *self.words("--user", "me", "--ssh-key", public_key()))
        self.assertEqual((os.listdir(self.data), self.read(self.disk())), (["web"], before))

    def test_an_incomplete_definition_costs_no_copy(self):
        result = self.anima("create", "web", "--cloud-image", self.image, "--user", "me", "--ssh-key", public_key())
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertFalse(os.path.exists(self.data) and os.listdir(self.data))

    # ---- what goes wrong on the way ----

    def test_a_full_disk_leaves_nothing(self):
        os.makedirs(self.data)
        with open(self.image, "wb") as stream:
            for _ in range(8):
                stream.write(os.urandom(MB))
        script = 'mount -t tmpfs -o size=4m none "$1" || exit 77; shift; "$@"; status=$?; ls -A "$D"; exit $status'
        words = self.words("--user", "me", "--ssh-key", public_key())
        result = subprocess.run(["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", self.data, ANIMA,
                                 *words], env=dict(self.env, D=self.data), capture_output=True, text=True,
                                timeout=PATIENCE, check=False)
        if result.returncode == 77 or "unshare" in result.stderr:
            self.skipTest("no mount namespace here")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("No space left on device", result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def large_image(self):
        """One whose copy takes a while, where nothing can be shared."""
        chunk = os.urandom(MB)
        with open(self.image, "wb") as stream:
            for _ in range(400):
                stream.write(chunk)
        other = "/dev/shm" if os.path.isdir("/dev/shm") else self.folder
        self.data = os.path.join(other, f"anima-test-{os.getpid()}")
        self.env["ANIMA_DATA_DIR"] = self.data
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)

    def interrupt(self, number):
        """Send the signal when the copy has begun; the status and the words."""
        self.large_image()
        process = subprocess.Popen([ANIMA, *self.words("--user", "me", "--ssh-key", public_key())], env=self.env,
                                   stderr=subprocess.PIPE, text=True)
        wait_for(lambda: [name for _, _, names in os.walk(self.data) for name in names], "the copy's beginning")
        process.send_signal(number)
        _, words = process.communicate(timeout=PATIENCE)
        return process.returncode, words

    def test_a_terminal_sees_how_far_it_is(self):
        self.large_image()
        words = self.words("--user", "me", "--ssh-key", public_key())
        session = pexpect.spawn(ANIMA, list(words), env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.expect(r"\[#+ *\] +\d+ %")
        session.expect(pexpect.EOF)
        session.close()
        self.assertEqual((session.exitstatus, os.listdir(self.data)), (0, ["web"]))

    def test_ctrl_c_gives_up_and_leaves_nothing(self):
        status, words = self.interrupt(signal.SIGINT)
        if status == 0:
            self.skipTest("the copy was quicker than the signal")
        self.assertEqual((status, words), (1, "anima: web: given up; nothing of it is left\n"))
        self.assertEqual(os.listdir(self.data), [])

    def test_what_a_killed_one_leaves_goes_with_the_next(self):
        status, _ = self.interrupt(signal.SIGKILL)
        if status == 0:
            self.skipTest("the copy was quicker than the signal")
        self.assertEqual(len(os.listdir(self.data)), 1)
        self.assertEqual(json.loads(self.anima("list", "--json").stdout), [])
        self.image = self.write("image.raw", b"\x33" * MB)
        self.create()
        self.assertEqual(os.listdir(self.data), ["web"])

    # ---- ssh ----

    def test_ssh_needs_a_machine_and_a_way(self):
        self.assert_refused(1, "no machine called 'nobody' is running", "ssh", "nobody")
        self.assert_refused(2, "--wait: expected", "ssh", "nobody", "--wait", "soon")
        self.assert_refused(2, "--user: expected", "ssh", "nobody", "--user=-oProxyCommand=x")
        self.assert_refused(2, "--config: ", "ssh", "nobody", "--config", "ls")
        session = self.greeted("--nic", "none")
        result = self.anima("ssh", "test")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no way from this host to the guest's port 22: it has no card on a network", result.stderr)
        session.send("\x1d")
        self.assert_ends(session, 0)

    def remedy(self, words):
        """What ssh says would make a way, which `words` are in; as a command's."""
        result = self.anima("ssh", "test", "--wait", "0")
        self.assertEqual(result.returncode, 1)
        self.assertIn(words, result.stderr)
        return re.search(r"'anima ([^']*)'", result.stderr)[1].split()

    def follow(self, words):
        result = self.anima(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        result = self.anima("ssh", "test", "--wait", "0")
        self.assertIn("no ssh server answers in the guest", result.stderr)

    def test_ssh_tells_what_makes_a_way(self):
        for kind in "nat", "internal":
            self.assertEqual(self.anima("network", "create", kind, "--kind", kind).returncode, 0)
        session = self.greeted("--nic", "switch=nat")
        self.follow(self.remedy("network forward nat add tcp:0:test:22"))
        self.assertEqual(self.anima("change", "test", "nic0", "network=user").returncode, 0)
        self.follow(self.remedy("change test nic0 forward+=tcp:0:22"))
        session.send("\x1d")
        self.assert_ends(session, 0)
        session = self.greeted("--nic", "switch=internal")
        self.follow(self.remedy("is internal"))
        session.send("\x1d")
        self.assert_ends(session, 0)

    def test_ssh_says_that_nobody_answers(self):
        self.greeted("--nic", "user,forward=tcp:0:22")
        started = time.monotonic()
        result = self.anima("ssh", "test", "--wait", "1", "--", "true")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no ssh server answers in the guest (after 1 s)", result.stderr)
        self.assertGreater(time.monotonic() - started, 0.9)

    def test_ssh_ends_with_the_machine(self):
        session = self.greeted("--nic", "user,forward=tcp:0:22")
        waiting = subprocess.Popen([ANIMA, "ssh", "test"], env=self.env, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        session.send("\x1d")
        self.assert_ends(session, 0)
        _, words = waiting.communicate(timeout=PATIENCE)
        self.assertEqual((waiting.returncode, words), (1, "anima: test: the machine has ended\n"))


if __name__ == "__main__":
    unittest.main()
