#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""import and export of packages: what goes out comes back, what is hostile leaves nothing."""
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import unittest

import pexpect

from anima_test import ANIMA, PATIENCE, PAYLOAD, AnimaTest, wait_for

OVF = "http://schemas.dmtf.org/ovf/envelope/1"
HEAD = (f'<?xml version="1.0"?>\n<Envelope ovf:version="1.0" xmlns="{OVF}" xmlns:ovf="{OVF}" '
        'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
        'xmlns:vbox="http://www.virtualbox.org/ovf/machine" xmlns:anima="urn:anima:ovf:machine:1">')
VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def item(kind, number, **members):
    members = dict(members, InstanceID=number, ResourceType=kind)
    inside = "".join(f"<rasd:{key}>{value}</rasd:{key}>" for key, value in members.items())
    return f"<Item>{inside}</Item>"


# As VirtualBox 7 writes it, but for what nobody reads.
VIRTUALBOX = (
    HEAD + '<References><File ovf:id="file1" ovf:href="box-disk001.vmdk"/></References>'
    '<DiskSection><Info>List of the virtual disks</Info><Disk ovf:capacity="{capacity}" ovf:diskId="vmdisk1" '
    f'ovf:fileRef="file1" ovf:format="{VMDK}" vbox:uuid="b0c4"/></DiskSection>'
    '<NetworkSection><Info>nets</Info><Network ovf:name="NAT"><Description>nat</Description></Network></NetworkSection>'
    '<VirtualSystem ovf:id="box"><Info>A virtual machine</Info>'
    '<OperatingSystemSection ovf:id="96"><Info>os</Info><Description>Debian_64</Description>'
    '<vbox:OSType ovf:required="false">Debian12_64</vbox:OSType></OperatingSystemSection>'
    '<VirtualHardwareSection><Info>hardware</Info><System/>'
    + item(3, 1, Caption="2 virtual CPU", VirtualQuantity=2)
    + item(4, 2, AllocationUnits="MegaBytes", Caption="64 MB of memory", VirtualQuantity=64)
    + item(5, 3, Caption="ideController0", ResourceSubType="PIIX4")
    + item(20, 5, Caption="sataController0", ResourceSubType="AHCI")
    + item(23, 6, Caption="usb")
    + item(35, 7, Caption="sound", ResourceSubType="ensoniq1371")
    + item(17, 8, Caption="disk1", HostResource="/disk/vmdisk1", Parent=5, AddressOnParent=0)
    + item(15, 9, Caption="cdrom1", Parent=3)
    + item(10, 10, Caption="Ethernet adapter on 'NAT'", Connection="NAT", ResourceSubType="E1000")
    + '</VirtualHardwareSection><vbox:Machine ovf:required="false" version="1.19-linux" name="box">'
    '<Hardware><Firmware type="EFI"/><Network><Adapter slot="0" enabled="true" MACAddress="080027AABBCC" '
    'type="82540EM"><NAT><Forwarding name="ssh" proto="1" hostport="2222" guestport="22"/></NAT></Adapter>'
    '<Adapter slot="1" enabled="false"/></Network></Hardware></vbox:Machine></VirtualSystem></Envelope>')


def tar_of(path, members, **kinds):
    """An archive of (name, bytes); `kinds` make of a name something else than a file."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.type = kinds.get(name, tarfile.REGTYPE)
            info.size = len(data) if info.type == tarfile.REGTYPE else 0
            info.linkname = "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))


def manifest_of(members, algorithm="SHA256"):
    return "".join(f"{algorithm}({name})= {hashlib.new(algorithm.lower(), data).hexdigest()}\n"
                   for name, data in members).encode()


def own(options, files=()):
    """A descriptor with nothing but a section of ours."""
    references = "".join(f'<File ovf:id="f{i}" ovf:href="{name}"/>' for i, name in enumerate(files))
    disks = "".join(f'<Disk ovf:diskId="d{i}" ovf:fileRef="f{i}" ovf:capacity="1024" ovf:format="{VMDK}"/>'
                    for i in range(len(files)))
    return (HEAD + f"<References>{references}</References><DiskSection><Info/>{disks}</DiskSection>"
            f'<VirtualSystem ovf:id="own"><Info/><anima:MachineSection ovf:required="false">{options}'
            "</anima:MachineSection></VirtualSystem></Envelope>").encode()


class Packages(AnimaTest):
    def setUp(self):
        super().setUp()
        result = self.anima("version", "--features", "--json")
        if "import" not in json.loads(result.stdout)["helpers"]:
            self.skipTest("this build reads no packages")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def good(self, *words):
        result = self.anima(*words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def lost(self, *words):
        """What the command tells that it does not carry over."""
        start = "anima: not carried over: "
        lines = self.good(*words).stderr.splitlines()
        self.assertTrue(all(line.startswith(start) for line in lines), lines)
        return [line[len(start):] for line in lines]

    def shown(self, name):
        return json.loads(self.good("show", name, "--json").stdout)

    def kept(self):
        return sorted(os.listdir(self.data)) if os.path.exists(self.data) else []

    def make_disk(self, name="a.img", size=40 << 20):
        """A sparse disk with some data; its path."""
        path = self.path(name)
        generator = random.Random(name)
        with open(path, "wb") as stream:
            for at in 0, size // 2, size - 4096:
                stream.seek(at)
                stream.write(generator.randbytes(4096))
        return path

    def make_vmdk(self, disk, name="box-disk001.vmdk", subformat="streamOptimized"):
        path = self.path(name)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", disk,
                        path], check=True)
        with open(path, "rb") as stream:
            return stream.read()

    def create(self, name="web", *options):
        self.good("create", name, "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", *options)

    def assert_same(self, a, b):
        with open(a, "rb") as left, open(b, "rb") as right:
            self.assertTrue(left.read() == right.read(), f"{a} and {b} differ")

    def assert_nothing_new(self, status, message, *words, before=()):
        self.assert_refused(status, message, *words)
        self.assertEqual(self.kept(), list(before))

    # ---- round trips ----

    def test_there_and_back(self):
        disks = [self.make_disk("a.img"), self.make_disk("b.img", 1 << 20)]
        self.create("web", "--initrd", PAYLOAD, "--append", " quiet  <&>\"'", "--cpus", "2",
                    "--disk", f"{disks[0]},serial=S,cache=none", "--disk", f"{disks[1]},readonly",
                    "--nic", "user,forward=tcp:8080:80,forward=udp:53:53", "--device", "virtio-rng",
                    "--restart", "on-failure")
        before = self.shown("web")
        for package in "web.ova", "web.ovf":
            self.good("export", "web", self.path(package))
            self.good("delete", "--yes", "web")
            self.assertEqual(self.good("import", self.path(package)).stderr, "")
            after = self.shown("web")
            self.assertEqual([disk.pop("file") for disk in after["disk"]],
                             [os.path.join(self.data, "web", "disks", f"disk{i}.img") for i in range(2)])
            for key in "kernel", "initrd":
                self.assertEqual(after[key], os.path.join(self.data, "web", "files", key))
                self.assert_same(after.pop(key), PAYLOAD)
            self.assertEqual(after, {key: value if key != "disk" else
                                     [{k: v for k, v in disk.items() if k != "file"} for disk in value]
                                     for key, value in before.items() if key not in ("kernel", "initrd")})
            for i, disk in enumerate(disks):
                copy = os.path.join(self.data, "web", "disks", f"disk{i}.img")
                self.assert_same(disk, copy)
                self.assertLessEqual(os.stat(copy).st_blocks, os.stat(disk).st_blocks)
        self.assertEqual(sorted(name for name in os.listdir(self.folder) if name.startswith((".", "web"))), [
            "web-disk1.vmdk", "web-disk2.vmdk", "web-initrd", "web-kernel", "web.mf", "web.ova", "web.ovf"])

    def test_a_machine_that_was_imported_runs(self):
        self.create("web", "--disk", self.make_disk())
        self.good("export", "web", self.path("web.ova"))
        self.good("import", self.path("web.ova"), "two")
        session = self.start_kept("two")
        session.expect("hello")
        session.send("\x1d")
        self.assert_ends(session, 0)

    def start_kept(self, name):
        session = pexpect.spawn(ANIMA, ["run", name], env=self.env, timeout=PATIENCE, encoding="utf-8")
        session.delaybeforesend = None
        self.sessions.append(session)
        return session

    def test_another_name_makes_another_machine(self):
        self.create("web", "--nic", "user")
        mac = self.shown("web")["nic"][0]["mac"]
        package = self.path("web.ova")
        self.assertEqual(len(self.lost("export", "web", package)), 2)
        self.assertEqual(self.lost("import", package, "two", "--memory", "32M"),
                         [f"nic: the address {mac}; it gets a new one with the new name (--keep-mac)"])
        self.assertEqual(self.lost("import", package, "three", "--keep-mac"), [])
        self.assertNotEqual(self.shown("two")["nic"][0]["mac"], mac)
        self.assertEqual(self.shown("three")["nic"][0]["mac"], mac)
        self.assertEqual(self.shown("two")["memory"], 32 << 20)
        self.assert_nothing_new(1, "web: a machine of this name is there already", "import", package,
                                before=["three", "two", "web"])

    def test_what_qemu_reads(self):
        disk = self.make_disk()
        self.create("web", "--disk", disk)
        self.good("export", "web", self.path("web.ova"))
        with tarfile.open(self.path("web.ova")) as archive:
            names = archive.getnames()
            self.assertEqual(names, ["web.ovf", "web.mf", "web-disk1.vmdk", "web-kernel"])
            archive.extractall(self.path("out"))
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", disk, self.path("out", "web-disk1.vmdk")],
                       check=True, capture_output=True)
        members = []
        for name in names[0], *names[2:]:
            with open(self.path("out", name), "rb") as stream:
                members.append((name, stream.read()))
        with open(self.path("out", "web.mf"), "rb") as stream:
            self.assertEqual(stream.read(), manifest_of(members))
        self.assertIn(f'ovf:size="{len(members[1][1])}"'.encode(), members[0][1])

    def test_what_is_of_this_host_stays_here(self):
        self.create("web", "--serial", f"file={self.path('out')}", "--nic", "tap=tap77",
                    "--port", f"agent,socket={self.path('agent')}")
        told = self.lost("export", "web", self.path("web.ova"))
        for line in (f"serial: 'file={self.path('out')}' is of this host", "port: 'agent' is of this host",
                     "nic: the network 'tap=tap77' is of this host; it becomes a card without a cable"):
            self.assertIn(line, told)
        self.lost("import", self.path("web.ova"), "two")
        shown = self.shown("two")
        self.assertEqual((shown["serial"], shown["nic"][0]["network"], shown.get("port", [])), ("stdio", "none", []))

    # ---- other programs' packages ----

    def virtualbox(self, subformat="streamOptimized", **changes):
        disk = self.make_disk()
        image = self.make_vmdk(disk, subformat=subformat)
        text = VIRTUALBOX.replace("{capacity}", str(os.path.getsize(disk)))
        for key, value in changes.items():
            self.assertIn(key.replace("__", "."), text)
            text = text.replace(key.replace("__", "."), value)
        return disk, [("box.ovf", text.encode()), ("box-disk001.vmdk", image)]

    def test_virtualbox(self):
        for subformat in "streamOptimized", "monolithicSparse":
            disk, members = self.virtualbox(subformat)
            package = self.path("box.ova")
            tar_of(package, [members[0], members[1], ("box.mf", manifest_of(members, "SHA1"))])
            self.assertEqual(self.lost("import", package, "--kernel", PAYLOAD), [
                "usb", "sound", "disk disks/disk0.img: the controller 'AHCI'; it becomes a virtio disk",
                "firmware: EFI", "nic: the model '82540EM'; it becomes a virtio card"])
            shown = self.shown("box")
            self.assertEqual((shown["cpus"], shown["memory"], shown["os"]), (2, 64 << 20, "debian12"))
            self.assertEqual((shown["nic"][0]["mac"], shown["nic"][0]["forward"]),
                             ("08:00:27:aa:bb:cc", ["tcp:0.0.0.0:2222:22"]))
            self.assert_same(disk, shown["disk"][0]["file"])
            self.good("delete", "--yes", "box")

    def test_in_several_files(self):
        _, members = self.virtualbox()
        os.mkdir(self.path("box"))
        for name, data in members + [("box.mf", manifest_of(members))]:
            with open(self.path("box", name), "wb") as stream:
                stream.write(data)
        descriptor = self.path("box", "box.ovf")
        self.lost("import", descriptor, "--kernel", PAYLOAD)
        os.remove(self.path("box", "box-disk001.vmdk"))
        self.assert_nothing_new(1, "box-disk001.vmdk: No such file", "import", descriptor, "two", "--kernel", PAYLOAD,
                                before=["box"])
        os.symlink(self.path("a.img"), self.path("box", "box-disk001.vmdk"))
        self.assert_nothing_new(1, "box-disk001.vmdk: Too many levels", "import", descriptor, "two", "--kernel",
                                PAYLOAD, before=["box"])
        os.remove(self.path("box", "box.mf"))
        with open(descriptor, "wb") as stream:
            stream.write(members[0][1].replace(b"box-disk001.vmdk", b"../a.img"))
        self.assert_nothing_new(1, "../a.img: a package's files lie beside", "import", descriptor, "two", "--kernel",
                                PAYLOAD, before=["box"])

    def test_nothing_to_boot(self):
        _, members = self.virtualbox()
        tar_of(self.path("box.ova"), members)
        self.assert_nothing_new(2, "kernel: nothing to boot", "import", self.path("box.ova"))

    def test_other_disks(self):
        _, members = self.virtualbox(**{VMDK: "http://www.microsoft.com/vhd"})
        tar_of(self.path("box.ova"), members)
        self.assertIn("disk box-disk001.vmdk: the format 'http://www.microsoft.com/vhd'; convert it to VMDK",
                      self.lost("import", self.path("box.ova"), "--kernel", PAYLOAD))
        self.assertEqual(self.shown("box").get("disk", []), [])

    # ---- hostile ones ----

    def refuse(self, message, members, status=1, **kinds):
        package = self.path("bad.ova")
        tar_of(package, members, **kinds)
        self.assert_nothing_new(status, message, "import", package, "bad", "--kernel", PAYLOAD)

    def test_archives_that_are_refused(self):
        _, (descriptor, disk) = self.virtualbox()
        for name in "../box.mf", "/etc/box.mf", "a/box.mf", "..", "a\\b":
            self.refuse("leads to a folder; a package has none", [descriptor, (name, b""), disk])
        self.refuse("it has the member 'box.ovf' twice", [descriptor, descriptor, disk])
        for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE:
            self.refuse("its member 'x' is no plain file", [descriptor, ("x", b""), disk], x=kind)
        self.refuse("its member 'x/' leads to a folder", [descriptor, ("x", b""), disk], x=tarfile.DIRTYPE)
        self.refuse("there is no descriptor (.ovf) in it", [disk])
        self.refuse("it has several descriptors (.ovf)", [descriptor, ("b.ovf", descriptor[1]), disk])
        self.refuse("box-disk001.vmdk: the package has no such file", [descriptor])
        self.refuse("box-disk001.vmdk: it is no VMDK image", [descriptor, (disk[0], b"x" * 2048)])
        self.refuse("bad.ova: it is no package", [])
        for junk in b"", b"x", os.urandom(4096):
            with open(self.path("bad.ova"), "wb") as stream:
                stream.write(junk)
            self.assert_nothing_new(1, "bad.ova: it is no package", "import", self.path("bad.ova"), "bad")

    def test_archives_that_are_cut_off(self):
        _, members = self.virtualbox()
        whole = self.path("whole.ova")
        tar_of(whole, members)
        for size in 512, 3000, 20000, 70000:
            with open(whole, "rb") as source, open(self.path("bad.ova"), "wb") as stream:
                stream.write(source.read(size))
            self.assert_nothing_new(1, "bad.ova: it", "import", self.path("bad.ova"), "bad", "--kernel", PAYLOAD)

    def test_huge_sizes(self):
        _, (descriptor, disk) = self.virtualbox()
        with open(self.path("bad.ova"), "wb") as stream:
            for name, data, size in descriptor + (len(descriptor[1]),), disk + (1 << 62,):
                info = tarfile.TarInfo(name)
                info.size = size
                stream.write(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
        self.assert_nothing_new(1, "bad.ova: it", "import", self.path("bad.ova"), "bad", "--kernel", PAYLOAD)
        # A disk that no host has room for.
        forged = bytearray(disk[1])
        forged[12:20] = (1 << 50).to_bytes(8, "little")
        self.refuse("its disk has a size that none can have", [descriptor, (disk[0], bytes(forged))])

    def test_manifests(self):
        _, members = self.virtualbox()
        good = manifest_of(members)
        self.refuse("box-disk001.vmdk: it is not as the package's manifest has it",
                    [members[0], members[1], ("box.mf", good.replace(good[-10:], b"012345678\n"))])
        self.refuse("box.ovf: it is not as the package's manifest has it",
                    [(members[0][0], members[0][1] + b"\n"), members[1], ("box.mf", good)])
        self.refuse("box-disk001.vmdk: the package's manifest says nothing of it",
                    [members[0], members[1], ("box.mf", good.splitlines(True)[0])])
        self.refuse("its manifest: its digests are none of SHA1",
                    [members[0], members[1], ("box.mf", good.replace(b"SHA256", b"MD5"))])

    def test_descriptors_that_are_refused(self):
        for text, message, status in (
                (b"<Envelope>", "bad.ovf:1:11: ", 2), (b"<a/>", "bad.ovf:1:1: this is no descriptor", 2),
                (HEAD.encode() + b"</Envelope>", "the package has no machine", 2),
                (b"<!DOCTYPE a [<!ENTITY b SYSTEM '/etc/passwd'>]><a>&b;</a>", "bad.ovf:1:1: this is no", 2)):
            self.refuse(message, [("bad.ovf", text)], status)

    def test_a_package_cannot_name_what_is_here(self):
        for options in (f'<anima:Option key="kernel">{PAYLOAD}</anima:Option>',
                        '<anima:Option key="serial">file=/tmp/x</anima:Option>',
                        '<anima:Option key="gdb">/tmp/x</anima:Option>',
                        f'<anima:Option key="state">{PAYLOAD}</anima:Option>',
                        f'<anima:Option key="module">{PAYLOAD} x</anima:Option>',
                        '<anima:Entry key="disk"><anima:Member key="file">/dev/sda</anima:Member></anima:Entry>',
                        '<anima:Entry key="port"><anima:Member key="name">a</anima:Member>'
                        '<anima:Member key="socket">/tmp/x</anima:Member></anima:Entry>'):
            tar_of(self.path("own.ova"), [("own.ovf", own(options))])
            self.assertEqual(len(self.lost("import", self.path("own.ova"), "--kernel", PAYLOAD)), 1, options)
            shown = self.shown("own")
            self.assertEqual((shown["kernel"], shown["serial"], shown.get("gdb"), shown.get("disk", []),
                              shown.get("port", []), shown.get("module", []), shown.get("state")),
                             (PAYLOAD, "stdio", None, [], [], [], None), options)
            self.good("delete", "--yes", "own")

    # ---- words and other faults ----

    def test_wrong_words(self):
        self.create()
        for status, message, words in (
                (2, "the name of a package ends in .ova", ["export", "web", self.path("web.tar")]),
                (2, "the name of a package ends in .ova", ["export", "web", ".ova"]),
                (1, "nobody: no machine of this name is defined", ["export", "nobody", self.path("web.ova")]),
                (1, "No such file or directory", ["export", "web", self.path("nowhere", "web.ova")]),
                (2, "usage: anima export", ["export", "web"]),
                (1, "absent.ova: No such file", ["import", self.path("absent.ova")]),
                (2, "--memory: expected a size", ["import", self.path("web.ova"), "--memory", "much"])):
            self.assert_nothing_new(status, message, *words, before=["web"])
        os.mkfifo(self.path("pipe.ova"))
        self.assert_nothing_new(1, "can be read more than once", "import", self.path("pipe.ova"), before=["web"])

    def test_no_file_is_replaced(self):
        self.create("web", "--disk", self.make_disk())
        for package, there in ("web.ova", "web.ova"), ("web.ovf", "web-disk1.vmdk"), ("web.ovf", "web.mf"):
            with open(self.path(there), "w", encoding="utf-8") as stream:
                stream.write("mine")
            self.assert_refused(1, f"{there}: there is such a file already", "export", "web", self.path(package))
            with open(self.path(there), encoding="utf-8") as stream:
                self.assertEqual(stream.read(), "mine")
            os.remove(self.path(there))
            self.assertEqual([name for name in os.listdir(self.folder) if "web" in name], [])

    def test_a_running_machine_is_not_exported(self):
        disk = self.make_disk()
        self.create("web", "--disk", disk, "--serial", "none")
        self.create("other", "--disk", disk)
        self.good("start", "web")
        self.assertIn("web: the machine is running; stop it first",
                      self.anima("export", "web", self.path("web.ova")).stderr)
        result = self.anima("export", "other", self.path("web.ova"))
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"disk: {disk}: in use by process", result.stderr)
        self.good("kill", "web")
        self.assertFalse(os.path.exists(self.path("web.ova")))

    def test_disks_of_a_format(self):
        self.create("web", "--disk", f"{self.make_disk()},format=qcow2")
        self.assert_nothing_new(1, "only raw disks can be exported, and it is qcow2; convert it first", "export", "web",
                                self.path("web.ova"), before=["web"])

    def interrupt(self, number, words, begun):
        """Start, and send the signal once begun() holds; the status."""
        process = subprocess.Popen([ANIMA, *words], env=self.env, stderr=subprocess.PIPE, text=True)
        wait_for(begun, "the work's beginning")
        process.send_signal(number)
        _, told = process.communicate(timeout=PATIENCE)
        return process.returncode, told

    def hidden(self, folder):
        return [name for name in (os.listdir(folder) if os.path.exists(folder) else []) if name.startswith(".")]

    def test_interrupted_work_leaves_nothing(self):
        disk = self.path("large.img")
        with open(disk, "wb") as stream:
            block = os.urandom(1 << 20)
            for _ in range(160):
                stream.write(block)
        self.create("web", "--disk", disk)
        package = self.path("web.ova")
        def begun():
            return self.hidden(self.folder)

        self.assertEqual(self.interrupt(signal.SIGINT, ["export", "web", package], begun)[0], 1)
        self.assertEqual(self.hidden(self.folder), [])
        self.interrupt(signal.SIGKILL, ["export", "web", package], begun)
        wait_for(lambda: not self.hidden(self.folder), "the end of the export's file")
        self.good("export", "web", package)

        def begun_import():
            return self.hidden(self.data)

        status, told = self.interrupt(signal.SIGTERM, ["import", package, "two"], begun_import)
        self.assertEqual((status, told), (1, "anima: it was cancelled\n"))
        self.assertEqual(self.kept(), ["web"])
        self.interrupt(signal.SIGKILL, ["import", package, "two"], begun_import)
        wait_for(lambda: self.kept() == ["web"], "the end of the import's folder")

    def test_from_python(self):
        self.create("web", "--disk", self.make_disk())
        program = ("import anima, json, sys\n"
                   "call = anima.export_begin('web', sys.argv[1])\n"
                   "assert call.fd() >= 0 and call.wait(30000)\n"
                   "print(json.loads(call.result())['name'])\n"
                   "print(json.loads(anima.import_(sys.argv[1], ['name=two', 'memory=32M']))['name'])\n"
                   "try:\n    anima.import_(sys.argv[1])\n"
                   "except anima.Error as error:\n    print(error.code.name)\n")
        module = os.path.join(os.path.dirname(os.path.dirname(ANIMA)), "lib", "api")
        result = subprocess.run(["/usr/bin/python3", "-c", program, self.path("web.ova")],
                                env=dict(self.env, PYTHONPATH=module), capture_output=True, text=True,
                                timeout=PATIENCE, check=False)
        self.assertEqual(result.stdout, "web\ntwo\nSTATE\n", result.stderr)


if __name__ == "__main__":
    if not shutil.which("qemu-img"):
        print("SKIP: qemu-img is missing")
        raise SystemExit(77)
    unittest.main()
