// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptions of other hypervisors: what becomes of them, and what is told to be lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "vmm/import/import.h"

/* The text becomes this vm.yaml, and loses these lines. */
static void assert_import(const char *text, const char *yaml, const char *lost)
{
    g_autofree char *written = NULL, *joined = NULL;
    g_autoptr(GError) error = NULL;
    struct import import;

    import_init(&import);
    assert_true(import_read(&import, text, strlen(text), &error));
    written = definition_to_yaml(import.definition, false);
    assert_string_equal(written, yaml);
    g_ptr_array_add(import.lost, NULL);
    joined = g_strjoinv("\n", (char **)import.lost->pdata);
    assert_string_equal(joined, lost);
    import_finish(&import);
}

static void assert_refused(const char *text, size_t size, const char *message)
{
    g_autoptr(GError) error = NULL;
    struct import import;

    import_init(&import);
    assert_false(import_read(&import, text, size, &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_string_equal(error->message, message);
    import_finish(&import);
}

#define DEVICES(text) "<domain><devices>" text "</devices></domain>"

static void a_domain_of_libvirt(void **state)
{
    assert_import(
        "<?xml version='1.0'?>\n<!-- a comment -->\n"
        "<domain type='kvm' id='3'><name>web</name><uuid>u</uuid>"
        "<memory unit='MiB'>256</memory><vcpu placement='static'> 4 </vcpu>"
        "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><kernel>/k</kernel>"
        "<initrd>/i</initrd><cmdline>a &lt;b&gt; c</cmdline><boot dev='hd'/></os>"
        "<features><acpi/><hyperv><relaxed/></hyperv></features>"
        "<cpu mode='host-model'/><clock offset='localtime'/>"
        "<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot>"
        "<on_crash>preserve</on_crash><devices/><iothreads>1</iothreads></domain>",
        "name: web\ncpu: host\ncpus: 4\nmemory: 256M\nkernel: /k\ninitrd: /i\n"
        "append: a <b> c\non-reboot: exit\non-crash: pause\n",
        "firmware: EFI\nfeatures: hyperv\nclock: the offset 'localtime'; it becomes "
        "utc\niothreads");
}

static void sizes_of_libvirt_have_units(void **state)
{
    assert_import("<domain><memory>1048576</memory></domain>", "memory: 1G\n", "");
    assert_import("<domain><memory unit='GB'>1</memory></domain>", "memory: 976560K\n", "");
    assert_import("<domain><memory unit='b'>1048577</memory></domain>", "memory: 1M\n", "");
    assert_import("<domain><memory unit='EiB'>1</memory></domain>", "{}\n",
                  "memory: '1 EiB' is no size");
    assert_import("<domain><memory unit='TiB'>99999999999</memory></domain>", "{}\n",
                  "memory: '99999999999 TiB' is no size");
    assert_import("<domain><memory>x</memory><vcpu>9999</vcpu></domain>", "{}\n",
                  "memory: 'x KiB' is no size\n"
                  "cpus: 9999 is more than the 64 that this version can do");
}

static void disks_of_libvirt(void **state)
{
    assert_import(DEVICES("<disk type='file'><driver type='raw' cache='none' discard='ignore'/>"
                          "<source file='/a,b'/><target dev='vda' bus='virtio'/><serial>S</serial>"
                          "<readonly/></disk>"
                          "<disk type='block'><source dev='/dev/vg/b'/>"
                          "<target bus='sata'/></disk>"),
                  "disk:\n- file: /a,b\n  readonly: yes\n  serial: S\n  cache: none\n"
                  "  discard: no\n- file: /dev/vg/b\n",
                  "disk /dev/vg/b: the bus 'sata'; it becomes a virtio disk");
    assert_import(DEVICES("<disk device='cdrom'><source file='/cd.iso'/></disk>"
                          "<disk><driver type='qed'/><source file='/c'/></disk>"
                          "<disk type='network'><source protocol='rbd' name='x'/></disk>"
                          "<disk><driver cache='unsafe'/><source file='/d'/></disk>"),
                  "disk:\n- file: /d\n",
                  "cdrom /cd.iso\ndisk /c: the format 'qed'; convert it to a raw file\n"
                  "disk that is no file of this host\n"
                  "disk /d: the cache 'unsafe'; it becomes the default");
}

static void lines_and_cards_of_libvirt(void **state)
{
    assert_import(DEVICES("<interface type='user'><mac address='52:54:00:00:00:01'/>"
                          "<mtu size='1400'/><model type='virtio'/></interface>"
                          "<interface type='network'><source network='default'/>"
                          "<model type='e1000'/></interface>"
                          "<interface type='ethernet'><target dev='tap0'/></interface>"
                          "<interface type='bridge'><source bridge='br0'/></interface>"
                          "<interface type='user'><mac address='x'/></interface>"),
                  "nic:\n- network: user\n  mac: 52:54:00:00:00:01\n  mtu: 1400\n"
                  "- network: none\n- network: tap=tap0\n- network: bridge=br0\n",
                  "nic: the network 'default'; it becomes a card without a cable\n"
                  "nic: the model 'e1000'; it becomes a virtio card\n"
                  "nic: mac: expected the address of one station such as 52:54:00:12:34:56, not "
                  "'x'");
    assert_import(
        DEVICES("<serial type='pty'/><serial type='file'><source path='/f'/></serial>"
                "<console type='pty'><target type='serial'/></console>"
                "<console type='unix'><source path='/s'/><target type='virtio'/></console>"
                "<channel type='unix'><source path='/g'/>"
                "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
                "<channel type='unix'><source path='/h'/>"
                "<target type='virtio' name='org.example.port'/></channel>"
                "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/>"
                "</channel><rng/><rng/><panic model='isa'/><panic model='pseries'/>"
                "<graphics type='vnc'/><controller type='usb'/>"),
        "serial: pty\nconsole: socket=/s\n"
        "port:\n- name: org.example.port\n  socket: /h\nagent: yes\n"
        "device:\n- virtio-rng\n- pvpanic\n",
        "serial: a further one\nchannel com.redhat.spice.0\n"
        "panic: the model 'pseries'\ngraphics");
}

static void a_machine_of_virtualbox(void **state)
{
    assert_import(
        "<VirtualBox xmlns='http://www.virtualbox.org/' version='1.19'><Machine name='box'>"
        "<MediaRegistry><HardDisks><HardDisk uuid='{a}' location='a.img' format='RAW'>"
        "<HardDisk uuid='{b}' location='b.vdi' format='VDI'/></HardDisk></HardDisks>"
        "</MediaRegistry><Hardware><CPU count='2'/><Memory RAMSize='2048'/><Network>"
        "<Adapter enabled='true' MACAddress='080027AABBCC' type='virtio'><NAT>"
        "<Forwarding proto='1' hostip='127.0.0.1' hostport='22' guestport='23'/>"
        "<Forwarding proto='0' hostip='' hostport='53' guestip='10.0.2.15' guestport='54'/></NAT>"
        "</Adapter><Adapter enabled='false'/><Adapter enabled='true' type='82540EM'>"
        "<BridgedInterface name='eth0'/></Adapter></Network><StorageControllers>"
        "<StorageController type='AHCI'><AttachedDevice type='HardDisk'><Image uuid='{a}'/>"
        "</AttachedDevice><AttachedDevice type='HardDisk'><Image uuid='{b}'/></AttachedDevice>"
        "<AttachedDevice type='DVD'/><AttachedDevice type='DVD'><Image uuid='{c}'/>"
        "</AttachedDevice></StorageController></StorageControllers><AudioAdapter/><Firmware "
        "type='EFI64'/></Hardware>"
        "</Machine></VirtualBox>",
        "name: box\ncpus: 2\nmemory: 2G\ndisk:\n- file: a.img\n"
        "nic:\n- network: user\n  mac: 08:00:27:aa:bb:cc\n  forward:\n"
        "  - tcp:127.0.0.1:22:23\n  - udp:0.0.0.0:53:10.0.2.15:54\n- network: none\n",
        "nic: the BridgedInterface; it becomes a card without a cable\n"
        "nic: the model '82540EM'; it becomes a virtio card\n"
        "disks: the controller 'AHCI'; they become virtio disks\n"
        "disk b.vdi: the format 'VDI'; convert it to a raw file\nDVD {c}\nAudioAdapter\n"
        "firmware: EFI");
}

static void a_domain_of_xen(void **state)
{
    assert_import("# a comment\nname = \"xen\"; type = 'pvh'\nmemory=512\nvcpus = 2\n"
                  "kernel = \"/k\"\nramdisk = '/i'\nroot = \"/dev/xvda\"\nextra = \"quiet\"\n"
                  "disk = [ 'phy:/dev/vg/a,xvda,w',\n  '/b,raw,xvdb,ro',\n"
                  "  'format=qed, vdev=xvdc, target=/c', '/d.iso,,hdc,cdrom' ]\n"
                  "vif = [ 'mac=00:16:3e:00:00:01, bridge=br1', '' ]\n"
                  "serial = 'file:/log'\non_crash = 'restart'\non_poweroff = 'restart'\nvnc = 1\n",
                  "name: xen\ncpus: 2\nmemory: 512M\nkernel: /k\ninitrd: /i\n"
                  "append: root=/dev/xvda quiet\ndisk:\n- file: /dev/vg/a\n- file: /b\n"
                  "  readonly: yes\nserial: file=/log\n"
                  "nic:\n- network: bridge=br1\n  mac: 00:16:3e:00:00:01\n- network: none\n"
                  "on-crash: restart\nrestart: always\n",
                  "disk /c: the format 'qed'; convert it to a raw file\n"
                  "disk: '/d.iso,,hdc,cdrom'\n"
                  "nic: Xen's own bridge; it becomes a card without a cable\nvnc");
    assert_import("", "{}\n", "");
    assert_import("serial = [ 'pty', 'tcp::4444' ]\nvcpus = 0\n", "serial: pty\n",
                  "serial: 'tcp::4444'\ncpus: 0 is less than the minimum of 1");
}

static void faults_are_told_with_their_place(void **state)
{
    static const char binary[] = "\0\1\2\3\xff";
    const char *const unknown = "1:1: this is no description of a machine that is known: libvirt's "
                                "XML, VirtualBox's .vbox, Xen's xl.cfg";
    g_autofree char *large = g_strnfill((1 << 20) + 1, ' ');

    assert_refused("<x/>", 4, unknown);
    assert_refused("name = \"a\"\nmemory = [\n", 22,
                   "3:1: expected a text or a number in the list");
    assert_refused("name\n= a\n", 9, "2:4: expected a number, a quoted text or a list");
    assert_refused("some text", 9, "1:10: expected '=' behind the name of an option");
    assert_refused(binary, sizeof(binary), unknown);
    assert_refused("\xff", 1, unknown);
    assert_refused("=", 1, "1:2: expected the name of an option");
    assert_refused("<domain><name>x", 15, "1:16: Premature end of data in tag name line 1");
    assert_refused(large, strlen(large),
                   "more than 1048576 bytes cannot be a machine's description");
}

/* No file is opened for an entity, and none grows. */
static void entities_stay_unresolved(void **state)
{
    assert_import("<!DOCTYPE domain [<!ENTITY x SYSTEM '/etc/hostname'><!ENTITY y 'yyy'>]>"
                  "<domain><vcpu>2</vcpu><os><cmdline>a&x;b</cmdline></os></domain>",
                  "cpus: 2\nappend: ab\n", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_of_libvirt),
        cmocka_unit_test(sizes_of_libvirt_have_units),
        cmocka_unit_test(disks_of_libvirt),
        cmocka_unit_test(lines_and_cards_of_libvirt),
        cmocka_unit_test(a_machine_of_virtualbox),
        cmocka_unit_test(a_domain_of_xen),
        cmocka_unit_test(faults_are_told_with_their_place),
        cmocka_unit_test(entities_stay_unresolved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
