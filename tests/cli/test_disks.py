#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Disks: which are refused and with what words, and who may have one at the same time."""
import os
import shutil
import subprocess
import unittest

from anima_test import AnimaTest, PATIENCE, PAYLOAD, wait_for


class Disks(AnimaTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.disk = self.make_disk("root.img", 1 << 20)

    def run_with(self, *disks, name="second", **options):
        words = [word for disk in disks for word in ("--disk", disk)]
        return self.anima("run", "--name", name, "--engine", "soft", "--memory", "64M", "--serial",
                          "none", "--kernel", PAYLOAD, *words, **options)

    def assert_disk_refused(self, message, *disks, status=1, **options):
        result = self.run_with(*disks, **options)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertRegex(result.stderr, message)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

    def tool(self, *words, **options):
        """A program of qemu-utils, or None where it is not installed."""
        if not shutil.which(words[0]):
            return None
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False,
                              **options)

    def test_files_that_cannot_be_disks(self):
        missing = os.path.join(self.folder, "missing.img")
        fifo = os.path.join(self.folder, "fifo")
        os.mkfifo(fifo)
        for disk, message in (
                (missing, "disk: .*missing.img: No such file or directory"),
                (self.folder, "disk: .*: this is a folder"),
                (self.folder + ",readonly", "disk: .*: this is a folder"),
                (fifo, "disk: .*fifo: this is neither a file nor a block device"),
                ("/dev/null", "disk: /dev/null: this is neither a file nor a block device"),
                (self.make_disk("empty.img", 0), "disk: .*empty.img: it is empty; give it a size"),
                (self.make_disk("odd.img", 1000), "its size is not a multiple of 512 bytes")):
            self.assert_disk_refused(message, disk)
        self.assertEqual(sorted(os.listdir(self.folder)),
                         ["empty.img", "fifo", "odd.img", "root.img"])

    def test_words_that_are_wrong(self):
        for disk, message in (
                (self.disk + ",cache=some", "disk: cache: 'some' is none of writeback"),
                (self.disk + ",bus=ide", "disk: bus: 'ide' is none of virtio"),
                (self.disk + ",serial=a/b", "disk: serial: expected up to 20 letters"),
                (self.disk + ",serial=" + 21 * "x", "disk: serial: expected up to 20 letters"),
                (self.disk + ",readnoly", "readonly"),
                ("", "disk: ")):
            self.assert_disk_refused(message, disk, status=2)
        self.assert_disk_refused("disk: a machine has up to 16", *(17 * [self.disk]), status=2)

    def test_the_same_file_twice(self):
        link = os.path.join(self.folder, "link.img")
        os.symlink(self.disk, link)
        self.assert_disk_refused("disk: .*link.img: the same file is given twice", self.disk, link)

    def test_a_file_that_may_not_be_written(self):
        program, payload, nobody = self.prepare_another_user()
        os.chmod(self.disk, 0o644)
        result = self.anima("run", "--engine", "soft", "--kernel", payload, "--disk", self.disk,
                            program=program, **nobody)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("no permission to write; open it read-only with ,readonly or change its mode",
                      result.stderr)

    def test_one_writer(self):
        session = self.greeted("--disk", self.disk, name="web")
        holder = r"disk: .*root.img: in use by process [0-9]+ \(anima-vmm, machine web\)"
        self.assert_disk_refused(holder, self.disk)
        self.assert_disk_refused(holder, self.disk + ",readonly")
        self.assertEqual(self.anima("upgrade", "web").returncode, 0)
        self.assert_disk_refused(holder, self.disk)
        for words in (("qemu-io", "-f", "raw", "-c", "write 0 512", self.disk),
                      ("qemu-img", "convert", "-f", "raw", "-O", "raw", self.disk,
                       self.disk + ".copy"),
                      ("qemu-img", "resize", "-f", "raw", self.disk, "2M")):
            result = self.tool(*words)
            if result:
                self.assertNotEqual(result.returncode, 0, words)
                self.assertIn("lock", result.stderr)
        session.send("q")
        self.assert_ends(session, 0)
        again = self.greeted("--disk", self.disk, name="web")
        again.send("q")
        self.assert_ends(again, 0)

    def test_an_image_of_any_size(self):
        """What qemu-img makes ends within a sector."""
        image = os.path.join(self.folder, "image")
        if not self.tool("qemu-img", "create", "-q", "-f", "qcow2", image, "8M"):
            self.skipTest("no qemu-img here (qemu-utils)")
        self.assertNotEqual(os.path.getsize(image) % 512, 0)
        session = self.greeted("--disk", image + ",format=qcow2")
        session.send("q")
        self.assert_ends(session, 0)

    def test_many_readers(self):
        first = self.greeted("--disk", self.disk + ",readonly", name="first")
        second = self.greeted("--disk", self.disk + ",readonly", name="other")
        self.assert_disk_refused(r"in use by process [0-9]+ \(anima-vmm, machine (first|other)\)",
                                 self.disk, name="third")
        for words, good in ((("qemu-io", "-r", "-f", "raw", "-c", "read 0 512", self.disk), True),
                            (("qemu-io", "-f", "raw", "-c", "write 0 512", self.disk), False)):
            result = self.tool(*words)
            if result:
                self.assertEqual(result.returncode == 0, good, result.stderr)
        for session in first, second:
            session.send("q")
            self.assert_ends(session, 0)

    def test_a_block_device_that_is_mounted(self):
        made = self.tool("losetup", "-f", "--show", self.disk)
        if not made or made.returncode:
            self.skipTest("no loop devices here")
        device, folder = made.stdout.strip(), os.path.join(self.folder, "mounted")
        os.mkdir(folder)
        try:
            self.assertEqual(self.tool("mke2fs", "-q", device).returncode, 0)
            if self.tool("mount", device, folder).returncode:
                self.skipTest("mounting is not allowed here")
            self.assert_disk_refused("the host itself uses it; unmount it first", device)
            subprocess.run(["umount", folder], check=True)
            session = self.greeted("--disk", device)
            self.assert_disk_refused(r"in use by process [0-9]+|the host itself uses it", device)
            session.send("q")
            self.assert_ends(session, 0)
        finally:
            subprocess.run(["losetup", "-d", device], check=False)

    def test_a_disk_that_qemu_has(self):
        if not shutil.which("qemu-nbd"):
            self.skipTest("qemu-utils is not installed")
        path = os.path.join(self.folder, "nbd")
        with subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-k", path, self.disk],
                              env=self.env) as server:
            try:
                wait_for(lambda: os.path.exists(path), "the NBD server")
                self.assert_disk_refused(
                    r"disk: .*root.img: in use by process " + str(server.pid) + r" \(qemu-nbd\)",
                    self.disk)
            finally:
                server.terminate()


if __name__ == "__main__":
    unittest.main()
