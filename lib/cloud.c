// SPDX-License-Identifier: Apache-2.0
/*
 * A machine out of an image for clouds: a copy of the image as its first disk, and what cloud-init
 * shall do with it as its last one, in the machine's folder.
 *
 * The image is anybody's, so nothing in it is understood here: its first bytes are looked at to
 * refuse what is no raw image, the copy is made longer, and the guest does the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/cloud.h"
#include "config/definition.h"
#include "config/store.h"
#include "lib/copy.h"
#include "lib/fault.h"
#include "lib/kept.h"
#include "lib/reader.h"

#define DISKS       "disks"
#define SEED        DISKS "/seed.iso"
#define LABEL       "cidata" /* what NoCloud looks for */
#define SECTOR      512
#define WRITER_LOCK 101
#define MODE        0600

struct anima_creation {
    struct store_draft *draft;
    struct cloud *cloud;
    char *text;      /* of the vm.yaml */
    int image, root; /* open files */
    struct copy copy;
    bool done;
};

/* ---- the image ---- */

#define QCOW2_MAGIC "QFI\xfb"

/* First bytes of what is no raw image. */
static const struct {
    unsigned offset;
    const char *magic;
    const char *what, *remedy;
} foreign[] = {
    {0, QCOW2_MAGIC, "a qcow2 image", "say image-format qcow2"},
    {0, "KDMV", "a VMDK image", "'qemu-img convert -O raw' makes one of it"},
    {0, "# Disk DescriptorFile", "a VMDK image", "'qemu-img convert -O raw' makes one of it"},
    {0, "vhdxfile", "a VHDX image", "'qemu-img convert -O raw' makes one of it"},
    {0, "conectix", "a VHD image", "'qemu-img convert -O raw' makes one of it"},
    {0, "<<< ", "a VDI image", "'qemu-img convert -O raw' makes one of it"},
    {0,
     "\xfd"
     "7zXZ",
     "compressed", "'xz -dk' unpacks it"},
    {0, "\x1f\x8b", "compressed", "'gunzip -k' unpacks it"},
    {0, "\x28\xb5\x2f\xfd", "compressed", "'zstd -d' unpacks it"},
    {0, "BZh", "compressed", "'bunzip2 -k' unpacks it"},
    {257, "ustar", "an archive", "'tar -xf' unpacks it"},
};

static bool refuse(const char *path, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

static bool refuse(const char *path, GError **error, const char *format, ...)
{
    g_autofree char *what = NULL;
    va_list arguments;

    va_start(arguments, format);
    what = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "cloud-image: %s: %s", path, what);
    return false;
}

/* Whether somebody writes to it now: he has locked this byte (vmm/monitor/disk_lock.c). */
static bool is_written_to(int fd)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = WRITER_LOCK, .l_len = 1};

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* Whether the first bytes may be those of an image of this format. What else is in it is the vmm's
 * to read, in its sandbox. */
static bool check_head(const char *head, const char *path, const char *format, GError **error)
{
    bool raw = g_str_equal(format, "raw");

    for (unsigned i = 0; raw && i < G_N_ELEMENTS(foreign); i++)
        if (memcmp(head + foreign[i].offset, foreign[i].magic, strlen(foreign[i].magic)) == 0)
            return refuse(path, error, "%s, where a raw image is needed; %s", foreign[i].what,
                          foreign[i].remedy);
    if (g_str_equal(format, "qcow2") && memcmp(head, QCOW2_MAGIC, strlen(QCOW2_MAGIC)) != 0)
        return refuse(path, error, "no qcow2 image");
    return true;
}

/* Whether the file may be an image of this format. */
static bool check_image(int fd, const char *path, const char *format, GError **error)
{
    char head[SECTOR] = {0};
    struct stat status;

    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return refuse(path, error, "not a regular file");
    if (status.st_size == 0)
        return refuse(path, error, "empty");
    if (is_written_to(fd))
        return refuse(path, error, "a machine that runs writes to it; stop that first");
    if (pread(fd, head, sizeof(head), 0) < 0)
        return refuse(path, error, "%s", g_strerror(errno));
    return check_head(head, path, format, error);
}

/* Open the image; its size goes to *size. -1 and an error. */
static int open_image(const struct cloud *cloud, uint64_t *size, GError **error)
{
    const char *path = cloud_image(cloud);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;

    if (fd < 0) {
        refuse(path, error, "%s", g_strerror(errno));
        return -1;
    }
    if (!check_image(fd, path, cloud_image_format(cloud), error) || fstat(fd, &status) != 0) {
        close(fd);
        return -1;
    }
    *size = (uint64_t)status.st_size;
    if (!cloud_disk_size(cloud) || cloud_disk_size(cloud) >= *size)
        return fd;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "disk-size: the image has %" PRIu64 " bytes already, and can only grow", *size);
    close(fd);
    return -1;
}

/* ---- the definition ---- */

static bool add(struct definition *definition, enum option_id id, const char *text, GError **error)
{
    return definition_set(definition, options[id].key, text, error);
}

/* The disk's file in the machine's folder. The caller frees it. */
static char *root_name(const struct cloud *cloud)
{
    const char *format = cloud_image_format(cloud);
    return g_strdup_printf(DISKS "/root.%s", g_str_equal(format, "raw") ? "img" : format);
}

/* What a guest of this kind needs. Paths are relative: the machine's folder may move. */
static bool complete(struct definition *definition, const struct cloud *cloud, GError **error)
{
    g_autofree char *root = root_name(cloud);
    g_autofree char *disk = g_strdup_printf("%s,format=%s", root, cloud_image_format(cloud));
    bool good = add(definition, OPTION_DISK, disk, error);

    if (good)
        definition_promote(definition, OPTION_DISK);
    good = good && add(definition, OPTION_DISK, SEED ",readonly", error);
    if (good && !definition_count(definition, OPTION_NIC))
        good = add(definition, OPTION_NIC, "user,forward=tcp:0:22", error);
    if (good && !definition_lists(definition, OPTION_DEVICE, "virtio-rng"))
        good = add(definition, OPTION_DEVICE, "virtio-rng", error);
    if (good && !definition_given(definition, OPTION_AGENT))
        good = add(definition, OPTION_AGENT, "yes", error);
    if (good && cloud_user(cloud) && !definition_has(definition, OPTION_SSH_USER))
        good = add(definition, OPTION_SSH_USER, cloud_user(cloud), error);
    if (good && cloud_identity(cloud) && !definition_has(definition, OPTION_SSH_IDENTITY))
        good = add(definition, OPTION_SSH_IDENTITY, cloud_identity(cloud), error);
    return good;
}

/* ---- the files ---- */

/* A new file in the draft's folder; -1 with an error. */
static int create_file(const struct store_draft *draft, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(store_draft_folder(draft), name, NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, MODE);

    if (fd < 0)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    return fd;
}

static bool fail_copy(const struct anima_creation *creation, GError **error)
{
    if (errno == EIO)
        return refuse(cloud_image(creation->cloud), error,
                      "it cannot be read to its end; does somebody change it?");
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: the disk cannot be written: %s",
                store_draft_folder(creation->draft), g_strerror(errno));
    return false;
}

/* What the seed's program reads, in a file without a name; -1 with an error. */
static int write_request(const struct cloud *cloud, GError **error)
{
    g_autofree char *uuid = g_uuid_string_random();
    json_t *request =
        json_pack("{s:s, s:o}", "label", LABEL, "files", cloud_documents(cloud, uuid));
    int fd = memfd_create("seed", MFD_CLOEXEC);
    bool good = fd >= 0 && json_dumpfd(request, fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0;

    json_decref(request);
    if (good)
        return fd;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "the seed cannot be written: %s",
                g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool write_seed(const struct anima_creation *creation, struct anima_error **error)
{
    g_autofree char *program = program_path("anima-seed", "seed", NULL);
    GError *cause = NULL;
    int in = -1, out = -1;
    bool good = false;

    if (!program) {
        error_set(error, ANIMA_ERROR_FAILED,
                  "cloud-image: this build makes no seeds for cloud-init (libarchive)");
        return false;
    }
    in = write_request(creation->cloud, &cause);
    if (in >= 0)
        out = create_file(creation->draft, SEED, &cause);
    if (out >= 0) {
        good = writer_run(program, in, out, "the seed cannot be written", error);
        if (good && fsync(out) != 0) {
            good = false;
            error_set(error, ANIMA_ERROR_FAILED, "the seed cannot be written: %s",
                      g_strerror(errno));
        }
    } else {
        error_take(error, cause);
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return good;
}

/* ---- the creation ---- */

/* Begin to make the files. */
static bool begin_files(struct anima_creation *creation, const char *name, uint64_t size,
                        GError **error)
{
    g_autofree char *folder = NULL, *root = root_name(creation->cloud);

    creation->draft = store_draft_begin(&store_machines, name, error);
    if (!creation->draft)
        return false;
    folder = g_build_filename(store_draft_folder(creation->draft), DISKS, NULL);
    if (mkdir(folder, 0700) != 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", folder, g_strerror(errno));
        return false;
    }
    creation->root = create_file(creation->draft, root, error);
    if (creation->root >= 0)
        copy_begin(&creation->copy, creation->image, creation->root, size);
    return creation->root >= 0;
}

/* Make the definition whole; the image's size goes to *size. */
static bool begin_definition(struct anima_creation *creation, struct definition *definition,
                             const json_t *given, uint64_t *size, GError **error)
{
    g_autofree char *here = g_get_current_dir();
    const char *name = kept_name(definition, error);

    creation->cloud = name ? cloud_create(given, name, error) : NULL;
    creation->image = creation->cloud ? open_image(creation->cloud, size, error) : -1;
    if (creation->image < 0)
        return false;
    definition_place(definition, here);
    return complete(definition, creation->cloud, error);
}

static bool begin(struct anima_creation *creation, struct definition *definition,
                  const json_t *given, struct anima_error **error)
{
    GError *cause = NULL;
    uint64_t size = 0;

    if (begin_definition(creation, definition, given, &size, &cause)) {
        creation->text = kept_text(definition, error);
        if (!creation->text)
            return false;
        if (begin_files(creation, definition_text(definition, OPTION_NAME), size, &cause))
            return true;
    }
    error_take(error, cause);
    return false;
}

ANIMA_API struct anima_creation *anima_definition_keep_cloud(struct anima_definition *definition,
                                                             const char *cloud,
                                                             struct anima_error **error)
{
    struct anima_creation *creation = g_new0(struct anima_creation, 1);
    json_error_t problem;
    json_t *given = json_loads(cloud, JSON_REJECT_DUPLICATES, &problem);
    bool good = false;

    creation->image = creation->root = -1;
    if (given)
        good = begin(creation, (struct definition *)definition, given, error);
    else
        error_set(error, ANIMA_ERROR_USAGE, "cloud: %s", problem.text);
    json_decref(given);
    if (good)
        return creation;
    anima_creation_destroy(creation);
    return NULL;
}

/* The copy is whole: its size, the seed, and the machine is there. */
static bool finish(struct anima_creation *creation, struct anima_error **error)
{
    uint64_t wanted = MAX(cloud_disk_size(creation->cloud), creation->copy.size);
    bool raw = g_str_equal(cloud_image_format(creation->cloud), "raw");
    uint64_t size = raw ? (wanted + SECTOR - 1) / SECTOR * SECTOR : wanted;
    GError *cause = NULL;

    if (ftruncate(creation->root, (off_t)size) != 0 || fsync(creation->root) != 0)
        fail_copy(creation, &cause);
    else if (!write_seed(creation, error))
        return false;
    else if (store_draft_keep(creation->draft, creation->text, &cause))
        return true;
    error_take(error, cause);
    return false;
}

ANIMA_API int anima_creation_step(struct anima_creation *creation, uint64_t *done, uint64_t *total,
                                  struct anima_error **error)
{
    GError *cause = NULL;
    int more = creation->done ? 0 : copy_step(&creation->copy);

    if (done)
        *done = creation->copy.place;
    if (total)
        *total = creation->copy.size;
    if (more < 0) {
        fail_copy(creation, &cause);
        error_take(error, cause);
        return -1;
    }
    if (more || creation->done)
        return more;
    creation->done = finish(creation, error);
    return creation->done ? 0 : -1;
}

ANIMA_API void anima_creation_destroy(struct anima_creation *creation)
{
    if (!creation)
        return;
    if (creation->root >= 0)
        close(creation->root);
    if (creation->image >= 0)
        close(creation->image);
    store_draft_destroy(creation->draft);
    cloud_destroy(creation->cloud);
    g_free(creation->text);
    g_free(creation);
}

ANIMA_API const struct anima_option *anima_cloud_option_at(unsigned index)
{
    return index < CLOUD_COUNT ? (const struct anima_option *)&cloud_options[index] : NULL;
}
