// SPDX-License-Identifier: Apache-2.0
/*
 * Packages: descriptors of others and of ours, manifests, headers of archives; and that a
 * definition cannot reach out of the package that it came from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/import/manifest.h"
#include "vmm/import/ovf.h"

#define VMDK          "http://www.vmware.com/interfaces/specifications/vmdk.html"
#define RASD(n, text) "<rasd:" n ">" text "</rasd:" n ">"
#define ITEM(type, id, more) \
    "<Item>" RASD("InstanceID", id) RASD("ResourceType", type) more "</Item>"
#define ENVELOPE(version, more)                                                           \
    "<?xml version='1.0'?><Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/" version \
    "' xmlns:ovf='http://schemas.dmtf.org/ovf/envelope/" version                          \
    "' xmlns:rasd='r' xmlns:vmw='v' xmlns:anima='urn:anima:ovf:machine:1'>" more "</Envelope>"
#define SYSTEM(more)   "<VirtualSystem ovf:id='web'><Info/>" more "</VirtualSystem>"
#define HARDWARE(more) SYSTEM("<VirtualHardwareSection><Info/>" more "</VirtualHardwareSection>")
#define OWN(more) \
    SYSTEM("<anima:MachineSection ovf:required='false'><Info/>" more "</anima:MachineSection>")

struct reading {
    struct import import;
    struct ovf ovf;
};

static void read_text(struct reading *reading, const char *text, const char *name)
{
    g_autoptr(GError) error = NULL;

    import_init(&reading->import);
    ovf_init(&reading->ovf, &reading->import);
    reading->ovf.name = name;
    if (!ovf_read(&reading->ovf, text, strlen(text), &error))
        fail_msg("%s", error->message);
}

static void finish(struct reading *reading)
{
    ovf_finish(&reading->ovf);
    import_finish(&reading->import);
}

/* The descriptor becomes this vm.yaml, and loses these lines. */
static void assert_read(const char *text, const char *yaml, const char *lost)
{
    g_autofree char *written = NULL, *joined = NULL;
    struct reading reading;

    read_text(&reading, text, NULL);
    written = definition_to_yaml(reading.import.definition, false);
    assert_string_equal(written, yaml);
    g_ptr_array_add(reading.import.lost, NULL);
    joined = g_strjoinv("\n", (char **)reading.import.lost->pdata);
    assert_string_equal(joined, lost);
    finish(&reading);
}

static void assert_refused(const char *text, const char *message)
{
    g_autoptr(GError) error = NULL;
    struct import import;
    struct ovf ovf;

    import_init(&import);
    ovf_init(&ovf, &import);
    assert_false(ovf_read(&ovf, text, strlen(text), &error));
    assert_true(g_error_matches(error, CONFIG_ERROR, CONFIG_ERROR_USAGE));
    assert_string_equal(error->message, message);
    ovf_finish(&ovf);
    import_finish(&import);
}

/* ---- descriptors of others ---- */

static void a_descriptor_of_vmware(void **state)
{
    static const char text[] = ENVELOPE(
        "1",
        "<References><File ovf:href='web-disk1.vmdk' ovf:id='file1' ovf:size='1'/>"
        "<File ovf:href='cd.iso' ovf:id='file2'/></References>"
        "<DiskSection><Info/><Disk ovf:capacity='16' ovf:capacityAllocationUnits='byte * 2^30' "
        "ovf:diskId='vmdisk1' ovf:fileRef='file1' ovf:format='" VMDK "#streamOptimized'/>"
        "<Disk ovf:capacity='2' ovf:capacityAllocationUnits='byte * 2^20' ovf:diskId='blank'/>"
        "</DiskSection><NetworkSection><Info/><Network ovf:name='VM Network'/></NetworkSection>"
        "<EulaSection><Info/><License>no</License></EulaSection>"
        "<VirtualSystem ovf:id='vm'><Info/><Name>web</Name>"
        "<OperatingSystemSection ovf:id='96' vmw:osType='debian12_64Guest'><Info/>"
        "</OperatingSystemSection><ProductSection><Info/><Product>x</Product></ProductSection>"
        "<ProductSection><Info/><Property ovf:key='ip'/></ProductSection>"
        "<VirtualHardwareSection><Info/><System/>" ITEM(
            "3", "1", RASD("VirtualQuantity", "4") "<vmw:CoresPerSocket>2</vmw:CoresPerSocket>")
            ITEM("4", "2", RASD("AllocationUnits", "byte * 2^20") RASD("VirtualQuantity", "2048"))
                ITEM("6", "3", RASD("ResourceSubType", "VirtualSCSI")) ITEM(
                    "17", "4",
                    RASD("HostResource", "ovf:/disk/vmdisk1") RASD("Parent", "3")
                        RASD("ElementName", "Hard Disk 1"))
                    ITEM("17", "5", RASD("HostResource", "ovf:/disk/blank")) ITEM(
                        "15", "6",
                        RASD("ElementName", "CD") RASD("HostResource", "ovf:/file/file2"))
                        ITEM("10", "7",
                             RASD("Address", "00:50:56:01:02:03") RASD("Connection", "VM Network")
                                 RASD("ResourceSubType", "VmxNet3"))
                            ITEM(
                                "24", "8",
                                RASD(
                                    "ElementName",
                                    "Video card")) "<vmw:Config ovf:required='false' "
                                                   "vmw:key='firmware' vmw:value='efi'/>"
                                                   "<vmw:Config ovf:required='false' "
                                                   "vmw:key='cpuHotAddEnabled' vmw:value='true'/>"
                                                   "</VirtualHardwareSection><vmw:BootOrderSection/"
                                                   "></VirtualSystem>");

    assert_read(text,
                "name: web\nos: debian12\ncpus: 4\nmemory: 2G\ndisk:\n- file: disks/disk0.img\n"
                "- file: disks/disk1.img\nnic:\n- network: none\n  mac: 00:50:56:01:02:03\n",
                "disk disks/disk0.img: the controller 'VirtualSCSI'; it becomes a virtio disk\n"
                "CD: 'ovf:/file/file2'\n"
                "nic: the model 'VmxNet3'; it becomes a virtio card\n"
                "nic: the network 'VM Network'; it becomes a card without a cable\n"
                "Video card\nfirmware: EFI\nProductSection: properties for the guest\n"
                "BootOrderSection\nEulaSection");
}

static void items_of_version_2(void **state)
{
    assert_read(
        ENVELOPE("2",
                 "<References><File ovf:id='f' ovf:href='d.vmdk'/></References><DiskSection>"
                 "<Disk ovf:diskId='d' ovf:fileRef='f' ovf:capacity='1'/></DiskSection>" HARDWARE(
                     "<StorageItem>" RASD("ResourceType", "17")
                         RASD("HostResource", "/disk/d") "</StorageItem><EthernetPortItem>" RASD(
                             "ResourceType", "10")
                             RASD("Connection", "nat") "</EthernetPortItem>")),
        "name: web\ndisk:\n- file: disks/disk0.img\nnic:\n- network: user\n", "");
}

static void sizes_have_units(void **state)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } rows[] = {{"byte * 2^30", 3ULL << 30}, {"byte*2^10", 3072}, {"MegaBytes", 3 << 20},
                {"GB", 3ULL << 30},          {"byte", 3},         {"", 3},
                {"byte * 2^99", 0},          {"fathoms", 0},      {"byte * 2^62", 0}};

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        uint64_t bytes = 0;

        assert_int_equal(ovf_bytes("3", rows[i].unit, &bytes), rows[i].bytes != 0);
        if (rows[i].bytes)
            assert_int_equal(bytes, rows[i].bytes);
    }
    assert_read(ENVELOPE("1", HARDWARE(ITEM("4", "1", RASD("VirtualQuantity", "x")))),
                "name: web\n", "memory: 'x ' is no size");
}

static void disks_that_cannot_be_taken(void **state)
{
    assert_read(
        ENVELOPE("1",
                 "<References><File ovf:id='f' ovf:href='a' ovf:compression='gzip'/>"
                 "<File ovf:id='g' ovf:href='b' ovf:chunkSize='5'/><File ovf:id='h' ovf:href='c'/>"
                 "</References><DiskSection><Disk ovf:diskId='a' ovf:fileRef='f'/>"
                 "<Disk ovf:diskId='b' ovf:fileRef='g'/><Disk ovf:diskId='c' ovf:fileRef='h' "
                 "ovf:format='vhd'/><Disk ovf:diskId='d' ovf:fileRef='h' ovf:parentRef='a'/>"
                 "<Disk ovf:diskId='e' ovf:fileRef='x'/><Disk ovf:diskId='f' ovf:capacity='7'/>"
                 "</DiskSection>" HARDWARE(
                     ITEM("17", "1", RASD("HostResource", "/disk/a"))
                         ITEM("17", "2", RASD("HostResource", "/disk/b"))
                             ITEM("17", "3", RASD("HostResource", "/disk/c"))
                                 ITEM("17", "4", RASD("HostResource", "/disk/d"))
                                     ITEM("17", "5", RASD("HostResource", "/disk/e"))
                                         ITEM("17", "6", RASD("HostResource", "/disk/f"))
                                             ITEM("17", "7", RASD("HostResource", "/disk/g")))),
        "name: web\n",
        "file a: its compression 'gzip'; unpack it first\n"
        "file b: it is in several pieces; join them first\n"
        "disk c: the format 'vhd'; convert it to VMDK\n"
        "disk c: it holds only what differs from another disk\n"
        "file x: the package has none\ndisk f: its size is none\ndisk g: the package has none");
}

static void what_is_no_descriptor(void **state)
{
    assert_refused("<a/>", "1:1: this is no descriptor of a package (OVF)");
    assert_refused(ENVELOPE("1", ""), "1:1: the package has no machine");
    assert_refused(ENVELOPE("1", HARDWARE("") HARDWARE("")),
                   "1:1: a package of several machines; only packages of one are read");
}

/* ---- ours ---- */

static struct definition *make_definition(void)
{
    static const char *const settings[][2] = {
        {"name", "web"},
        {"cpus", "3"},
        {"memory", "100M"},
        {"kernel", "/k"},
        {"append", " a <b> \"c\" & 'd' "},
        {"module", "/m x y"},
        {"disk", "/d,readonly,serial=S"},
        {"nic", "user,forward=tcp:1:2,forward=udp:3:4,mac=52:54:00:01:02:03"},
        {"device", "virtio-rng,pvpanic"},
        {"restart", "always"},
    };
    struct definition *definition = definition_create();

    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++)
        assert_true(definition_set(definition, settings[i][0], settings[i][1], NULL));
    return definition;
}

static char *write_own(const struct definition *definition, struct import *lost)
{
    struct ovf_part parts[] = {
        {.option = OPTION_DISK, .href = (char *)"web-disk1.vmdk", .capacity = 1024, .size = 7},
        {.option = OPTION_KERNEL, .href = (char *)"web-kernel"},
        {.option = OPTION_MODULE, .href = (char *)"web-module1"},
    };

    return ovf_write(definition, "web", parts, G_N_ELEMENTS(parts), lost);
}

static void what_is_written_is_read(void **state)
{
    struct definition *definition = make_definition();
    g_autofree char *text = write_own(definition, NULL), *yaml = NULL;
    struct reading reading;

    read_text(&reading, text, NULL);
    yaml = definition_to_yaml(reading.import.definition, false);
    assert_string_equal(
        yaml,
        "name: web\ncpus: 3\nmemory: 100M\nkernel: files/kernel\nmodule:\n- files/module0 x y\n"
        "append: ' a <b> \"c\" & ''d'' '\ndisk:\n- file: disks/disk0.img\n  readonly: yes\n"
        "  serial: S\nnic:\n- network: user\n  mac: 52:54:00:01:02:03\n  forward:\n"
        "  - tcp:1:2\n  - udp:3:4\ndevice:\n- virtio-rng\n- pvpanic\nrestart: always\n");
    assert_int_equal(reading.import.lost->len, 0);
    assert_int_equal(reading.ovf.files->len, 3);
    finish(&reading);
    definition_destroy(definition);
}

/* Programs that ignore our section find the rest. */
static void others_read_ours(void **state)
{
    struct definition *definition = make_definition();
    g_autofree char *text = write_own(definition, NULL), *yaml = NULL;
    char *section = strstr(text, "<anima:MachineSection"), *end;
    struct reading reading;

    assert_non_null(section);
    end = strstr(section, "</anima:MachineSection>") + strlen("</anima:MachineSection>");
    memset(section, ' ', end - section);
    read_text(&reading, text, NULL);
    yaml = definition_to_yaml(reading.import.definition, false);
    assert_string_equal(yaml, "name: web\ncpus: 3\nmemory: 100M\ndisk:\n- file: disks/disk0.img\n"
                              "nic:\n- network: user\n  mac: 52:54:00:01:02:03\n");
    finish(&reading);
    definition_destroy(definition);
}

static void another_name_has_other_addresses(void **state)
{
    struct definition *definition = make_definition();
    g_autofree char *text = write_own(definition, NULL);
    struct reading reading;

    read_text(&reading, text, "www");
    assert_string_equal(definition_text(reading.import.definition, OPTION_NAME), "www");
    assert_null(definition_member_text(reading.import.definition, OPTION_NIC, 0, "mac"));
    assert_int_equal(reading.import.lost->len, 1);
    finish(&reading);
    definition_destroy(definition);
}

static void what_is_of_the_host_is_left_out(void **state)
{
    assert_read(ENVELOPE("1", OWN("<anima:Option anima:key='kernel'>/k</anima:Option>"
                                  "<anima:Option anima:key='serial'>file=/f</anima:Option>"
                                  "<anima:Option anima:key='serial'>pty</anima:Option>"
                                  "<anima:Option anima:key='name'>x</anima:Option>"
                                  "<anima:Option anima:key='kernle'>x</anima:Option>"
                                  "<anima:Entry anima:key='nic'><anima:Member anima:key='network'>"
                                  "tap=t</anima:Member></anima:Entry>"
                                  "<anima:Entry anima:key='disk'><anima:Member anima:key='file'>/d"
                                  "</anima:Member></anima:Entry>"
                                  "<anima:Entry anima:key='cpus'/><anima:Option/><what/>")),
                "name: web\nserial: pty\nnic:\n- network: none\n",
                "kernel: '/k' is of the host where the machine was\n"
                "serial: 'file=/f' is of the host where the machine was\nname\nkernle\n"
                "nic: the network 'tap=t'; it becomes a card without a cable\n"
                "disk: '/d' is of the host where the machine was\ncpus\n"
                "an option without a name\nwhat");
}

static void assert_reaches_out(const char *yaml, bool reaches)
{
    char *paths[] = {(char *)"files/kernel", (char *)"disks/disk0.img"};
    struct definition *definition = definition_create();

    assert_true(definition_load_yaml(definition, "x", NULL, yaml, strlen(yaml), NULL));
    assert_int_equal(!ovf_check_paths(definition, paths, G_N_ELEMENTS(paths), NULL), reaches);
    definition_destroy(definition);
}

static void nothing_reaches_out_of_a_package(void **state)
{
    assert_reaches_out("kernel: files/kernel\ndisk:\n- file: disks/disk0.img\nserial: pty\n",
                       false);
    assert_reaches_out("module:\n- files/kernel x\n", false);
    assert_reaches_out("kernel: /k\n", true);
    assert_reaches_out("kernel: files/initrd\n", true);
    assert_reaches_out("module:\n- /k x\n", true);
    assert_reaches_out("disk:\n- file: disks/disk0.img\n- file: ../d\n", true);
    assert_reaches_out("serial: file=/f\n", true);
    assert_reaches_out("console: socket=/f\n", true);
    assert_reaches_out("gdb: /f\n", true);
    assert_reaches_out("state: /f\n", true);
    assert_reaches_out("nic:\n- network: tap=t\n", true);
    assert_reaches_out("port:\n- name: a\n  socket: /s\n", true);
}

static void guests_by_their_names(void **state)
{
    static const char *const rows[][2] = {
        {"debian12_64Guest", "debian12"},    {"Debian11_64", "debian11"}, {"Debian_64", NULL},
        {"windows9_64Guest", "win10"},       {"Windows11_64", "win11"},   {"otherGuest", NULL},
        {"debian999999999999999999x", NULL},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *os = guest_find(rows[i][0]);

        if (rows[i][1])
            assert_string_equal(os, rows[i][1]);
        else
            assert_null(os);
    }
    assert_int_equal(guest_cim("debian12"), 96);
    assert_int_equal(guest_cim(NULL), 102);
}

/* ---- manifests ---- */

static void manifests(void **state)
{
    static const char text[] =
        "SHA256(a.ovf)= ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\r\n\n"
        "sha1 (a (1).vmdk) = A9993E364706816ABA3E25717850C26C9CD0D89D\n";
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"x", "its manifest: it has a line that says no digest of a file"},
        {"SHA1)a(= 0", "its manifest: it has a line that says no digest of a file"},
        {"MD5(a)= 0", "its manifest: its digests are none of SHA1, SHA256, SHA384, SHA512"},
        {"SHA1(a)= a9993e", "its manifest: it has a digest that is none"},
        {"SHA1(a)= a9993e364706816aba3e25717850c26c9cd0d89d\n"
         "SHA1(a)= a9993e364706816aba3e25717850c26c9cd0d89d",
         "its manifest: it tells of a file twice"},
    };
    struct member member = {.name = (char *)"a", .fd = memfd_create("a", 0), .at = 1, .size = 3};
    GHashTable *digests = manifest_read(text, strlen(text), NULL);
    g_autoptr(GError) error = NULL;

    assert_int_equal(pwrite(member.fd, "xabcx", 5, 0), 5);
    assert_non_null(digests);
    assert_true(manifest_check(&member, g_hash_table_lookup(digests, "a.ovf"), NULL));
    assert_true(manifest_check(&member, g_hash_table_lookup(digests, "a (1).vmdk"), NULL));
    member.at = 2;
    assert_false(manifest_check(&member, g_hash_table_lookup(digests, "a.ovf"), &error));
    g_hash_table_unref(digests);
    close(member.fd);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) fault = NULL;

        assert_null(manifest_read(rows[i].text, strlen(rows[i].text), &fault));
        assert_string_equal(fault->message, rows[i].message);
    }
}

/* ---- archives ---- */

/* A file of 20 GB has a header of GNU's, which is read as the others are. */
static void headers_of_any_size(void **state)
{
    static const uint64_t sizes[] = {0, 1, 511, 5000, 8ULL << 30, 20ULL << 30};
    int fd = memfd_create("tar", 0);
    uint8_t block[TAR_BLOCK];
    uint64_t at = 0;
    GPtrArray *members;

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *name = g_strdup_printf("m%u", i);

        assert_true(tar_header(name, sizes[i], block, NULL));
        assert_int_equal(pwrite(fd, block, TAR_BLOCK, (off_t)at), TAR_BLOCK);
        at += TAR_BLOCK + (sizes[i] + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
    assert_int_equal(ftruncate(fd, (off_t)at + 2 * TAR_BLOCK), 0);
    members = tar_list(fd, at + 2 * TAR_BLOCK, NULL);
    assert_non_null(members);
    assert_int_equal(members->len, G_N_ELEMENTS(sizes));
    at = 0;
    for (unsigned i = 0; i < members->len; i++) {
        const struct member *member = members->pdata[i];

        assert_int_equal(member->at, at + TAR_BLOCK);
        assert_int_equal(member->size, sizes[i]);
        at = member->at + (sizes[i] + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
    g_ptr_array_unref(members);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_descriptor_of_vmware),
        cmocka_unit_test(items_of_version_2),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(disks_that_cannot_be_taken),
        cmocka_unit_test(what_is_no_descriptor),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(others_read_ours),
        cmocka_unit_test(another_name_has_other_addresses),
        cmocka_unit_test(what_is_of_the_host_is_left_out),
        cmocka_unit_test(nothing_reaches_out_of_a_package),
        cmocka_unit_test(guests_by_their_names),
        cmocka_unit_test(manifests),
        cmocka_unit_test(headers_of_any_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
