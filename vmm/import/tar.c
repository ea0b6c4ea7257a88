// SPDX-License-Identifier: Apache-2.0
/*
 * Headers of tar archives. Only where members lie is learnt from libarchive: their bytes are read
 * at any place and in any order, which a compressed archive could not bear.
 */
#include "vmm/import/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>

#include "vmm/util/fault.h"

#define MEMBERS_MAX 1024
#define READ_BLOCK  65536
#define NAME_BYTES  255
#define USTAR_MAX   (8ULL << 30) /* bytes: what eleven octal digits can say */

void member_free(struct member *member)
{
    g_free(member->name);
    g_free(member);
}

static bool fail(GError **error, const char *format, const char *name)
{
    g_autofree char *shown = g_strdup(name ? name : "?");

    for (char *at = shown; *at; at++)
        if (!g_ascii_isprint(*at))
            *at = '?';
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, format, shown);
    return false;
}

static bool fail_archive(GError **error, struct archive *archive)
{
    const char *text = archive_error_string(archive);

    return fail(error, "it is no package: %s", text ? text : "the archive cannot be read");
}

/* ---- reading ---- */

/* The name as it stands there, without the "./" of archives of the present folder. */
static const char *plain_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);

    if (!name)
        name = archive_entry_pathname_utf8(entry);
    return name && g_str_has_prefix(name, "./") ? name + 2 : name;
}

static bool check_name(const GPtrArray *members, const char *name, GError **error)
{
    if (!name || !*name || strlen(name) > NAME_BYTES || !g_utf8_validate(name, -1, NULL))
        return fail(error, "it has a member whose name is none: '%s'", name);
    if (strchr(name, '/') || strchr(name, '\\') || g_str_equal(name, "..") ||
        g_str_equal(name, "."))
        return fail(error, "its member '%s' leads to a folder; a package has none", name);
    for (unsigned i = 0; i < members->len; i++)
        if (g_str_equal(((struct member *)members->pdata[i])->name, name))
            return fail(error, "it has the member '%s' twice", name);
    return members->len < MEMBERS_MAX ||
           fail(error, "it has more members than a package can have; the next is '%s'", name);
}

/* A plain file in one piece. */
static bool check_kind(struct archive_entry *entry, const char *name, GError **error)
{
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
        archive_entry_symlink(entry))
        return fail(error, "its member '%s' is no plain file", name);
    if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0 ||
        archive_entry_sparse_count(entry))
        return fail(error, "its member '%s' is stored in a way that no package's is", name);
    return true;
}

static bool take_member(GPtrArray *members, struct archive *archive, struct archive_entry *entry,
                        uint64_t size, GError **error)
{
    const char *name = plain_name(entry);
    la_int64_t at = archive_filter_bytes(archive, 0), length;
    struct member *member;

    if (!check_name(members, name, error) || !check_kind(entry, name, error))
        return false;
    length = archive_entry_size(entry);
    if (at < 0 || at % TAR_BLOCK || (uint64_t)at > size || (uint64_t)length > size - (uint64_t)at)
        return fail(error, "it is cut off in the member '%s'", name);
    member = g_new0(struct member, 1);
    member->name = g_strdup(name);
    member->at = (uint64_t)at;
    member->size = (uint64_t)length;
    g_ptr_array_add(members, member);
    return true;
}

static bool list(struct archive *archive, GPtrArray *members, uint64_t size, GError **error)
{
    struct archive_entry *entry;
    int result;

    while ((result = archive_read_next_header(archive, &entry)) >= ARCHIVE_WARN &&
           result != ARCHIVE_EOF)
        if (!take_member(members, archive, entry, size, error))
            return false;
    return result == ARCHIVE_EOF || fail_archive(error, archive);
}

GPtrArray *tar_list(int fd, uint64_t size, GError **error)
{
    GPtrArray *members = g_ptr_array_new_with_free_func((GDestroyNotify)member_free);
    struct archive *archive = archive_read_new();
    bool good = false;

    archive_read_support_format_tar(archive);
    if (archive_read_open_fd(archive, fd, READ_BLOCK) == ARCHIVE_OK)
        good = list(archive, members, size, error);
    else
        fail_archive(error, archive);
    archive_read_free(archive);
    for (unsigned i = 0; i < members->len; i++)
        ((struct member *)members->pdata[i])->fd = fd;
    if (!good)
        g_clear_pointer(&members, g_ptr_array_unref);
    return members;
}

/* ---- writing ---- */

struct header {
    uint8_t *block;
    size_t used;
};

/* Only the first block is wanted of the archive. */
static la_ssize_t keep_block(struct archive *archive, void *opaque, const void *data, size_t size)
{
    struct header *header = opaque;
    size_t wanted = MIN(size, TAR_BLOCK - header->used);

    memcpy(header->block + header->used, data, wanted);
    header->used += wanted;
    return (la_ssize_t)size;
}

static bool write_header(struct archive *archive, struct header *header, const char *name,
                         uint64_t size)
{
    struct archive_entry *entry = archive_entry_new();
    bool good;

    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)size);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, g_get_real_time() / G_USEC_PER_SEC, 0);
    good = archive_write_header(archive, entry) == ARCHIVE_OK && header->used == TAR_BLOCK;
    archive_entry_free(entry);
    return good;
}

/* POSIX's form as long as it has room for the size; then GNU's, which all readers know too. */
bool tar_header(const char *name, uint64_t size, uint8_t block[TAR_BLOCK], GError **error)
{
    struct archive *archive = archive_write_new();
    struct header header = {.block = block};
    bool good;

    if (size < USTAR_MAX)
        archive_write_set_format_ustar(archive);
    else
        archive_write_set_format_gnutar(archive);
    archive_write_set_bytes_per_block(archive, 0);
    good = archive_write_open(archive, &header, NULL, keep_block, NULL) == ARCHIVE_OK &&
           write_header(archive, &header, name, size);
    if (!good)
        fail_archive(error, archive);
    /* What would come behind the header is somebody else's work. */
    archive_write_fail(archive);
    archive_write_close(archive);
    archive_write_free(archive);
    return good;
}
