// SPDX-License-Identifier: Apache-2.0
/*
 * Unpacking: first the descriptor alone, so that whoever owns the machine's folder can say whether
 * and where it wants the files; then the files. Digests of the manifest are computed beside that.
 */
#include "vmm/import/unpack.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/import/manifest.h"
#include "vmm/import/ovf.h"
#include "vmm/import/tar.h"
#include "vmm/util/fault.h"

#define DESCRIPTOR_MAX (4U << 20) /* bytes: some have a license in them */
#define COPY_BYTES     (1U << 20)
#define THREADS_MAX    16U

/* A file of the machine on its way. */
struct target {
    const struct ovf_file *file;
    int fd, source;       /* -1: none */
    struct member member; /* without a name; of BLANK nothing */
    struct vmdk *image;   /* of DISK */
    const struct digest *digest;
    uint64_t bytes; /* that it counts in the progress */
};

struct unpack {
    int package;
    bool archive;
    GPtrArray *members;  /* of struct member *; of an archive */
    GHashTable *digests; /* of struct digest *, by name; NULL: no manifest */
    struct import import;
    struct ovf ovf;
    GArray *targets; /* of struct target */

    const struct vmdk_progress *progress;
    uint64_t before; /* bytes of the files that are done */
};

static bool fail(GError **error, const char *name, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s%s%s", name ? name : "", name ? ": " : "",
                what);
    return false;
}

/* ---- life ---- */

static void target_clear(struct target *target)
{
    vmdk_close(target->image);
    if (target->fd >= 0)
        close(target->fd);
    if (target->source >= 0)
        close(target->source);
    g_free(target->member.name);
}

struct unpack *unpack_create(void)
{
    struct unpack *unpack = g_new0(struct unpack, 1);

    unpack->package = -1;
    import_init(&unpack->import);
    ovf_init(&unpack->ovf, &unpack->import);
    unpack->targets = g_array_new(FALSE, TRUE, sizeof(struct target));
    g_array_set_clear_func(unpack->targets, (GDestroyNotify)target_clear);
    return unpack;
}

void unpack_destroy(struct unpack *unpack)
{
    if (!unpack)
        return;
    g_array_unref(unpack->targets);
    ovf_finish(&unpack->ovf);
    import_finish(&unpack->import);
    if (unpack->digests)
        g_hash_table_unref(unpack->digests);
    if (unpack->members)
        g_ptr_array_unref(unpack->members);
    if (unpack->package >= 0)
        close(unpack->package);
    g_free(unpack);
}

/* ---- reading what the package is ---- */

static uint64_t size_of(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
}

/* The whole of a small member. */
static char *read_member(const struct member *member, size_t most, GError **error)
{
    g_autofree char *text = NULL;
    size_t done = 0;

    if (member->size > most) {
        fail(error, member->name, "it is larger than any such file is");
        return NULL;
    }
    text = g_try_malloc(member->size + 1);
    if (!text) {
        fail(error, member->name, "there is no memory to read it");
        return NULL;
    }
    while (done < member->size) {
        ssize_t count =
            pread(member->fd, text + done, member->size - done, (off_t)(member->at + done));

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            fail(error, member->name, "it cannot be read");
            return NULL;
        }
        done += count;
    }
    text[done] = 0;
    return g_steal_pointer(&text);
}

static const struct member *find_member(const struct unpack *unpack, const char *name)
{
    for (unsigned i = 0; unpack->members && i < unpack->members->len; i++) {
        const struct member *member = unpack->members->pdata[i];

        if (g_str_equal(member->name, name))
            return member;
    }
    return NULL;
}

static bool is_descriptor(const char *name)
{
    size_t length = strlen(name);

    return length > 4 && g_ascii_strcasecmp(name + length - 4, ".ovf") == 0;
}

static const struct member *find_descriptor(const struct unpack *unpack, GError **error)
{
    const struct member *found = NULL;

    for (unsigned i = 0; i < unpack->members->len; i++) {
        const struct member *member = unpack->members->pdata[i];

        if (!is_descriptor(member->name))
            continue;
        if (found) {
            fail(error, NULL, "it has several descriptors (.ovf), and is none's package");
            return NULL;
        }
        found = member;
    }
    if (!found)
        fail(error, NULL, "it is no package: there is no descriptor (.ovf) in it");
    return found;
}

/* The digest that the manifest, if there is one, has for a file: it has one for each. */
static bool find_digest(const struct unpack *unpack, const char *name, const struct digest **digest,
                        GError **error)
{
    *digest = unpack->digests ? g_hash_table_lookup(unpack->digests, name) : NULL;
    return !unpack->digests || *digest ||
           fail(error, name, "the package's manifest says nothing of it");
}

static bool take_manifest(struct unpack *unpack, const struct member *descriptor, int manifest,
                          GError **error)
{
    g_autofree char *base = g_strndup(descriptor->name, strlen(descriptor->name) - 4);
    g_autofree char *name = g_strconcat(base, ".mf", NULL), *text = NULL;
    g_autofree char *certificate = g_strconcat(base, ".cert", NULL);
    struct member file = {.name = name, .fd = manifest, .size = size_of(manifest)};
    const struct member *member = manifest >= 0 ? &file : find_member(unpack, name);
    const struct digest *digest;

    if (find_member(unpack, certificate))
        import_lose(&unpack->import, "%s: the package's signature; it is not checked", certificate);
    if (!member)
        return true;
    text = read_member(member, MANIFEST_MAX, error);
    unpack->digests = text ? manifest_read(text, member->size, error) : NULL;
    return unpack->digests && find_digest(unpack, descriptor->name, &digest, error) &&
           manifest_check(descriptor, digest, error);
}

static bool read_descriptor(struct unpack *unpack, const struct member *descriptor, int manifest,
                            GError **error)
{
    g_autofree char *text = NULL;

    if (!take_manifest(unpack, descriptor, manifest, error))
        return false;
    text = read_member(descriptor, DESCRIPTOR_MAX, error);
    if (!text)
        return false;
    if (ovf_read(&unpack->ovf, text, descriptor->size, error))
        return true;
    if (unpack->archive)
        g_prefix_error(error, "%s:", descriptor->name);
    return false;
}

static bool begins_with_markup(int fd)
{
    char head[64] = "";
    ssize_t count = pread(fd, head, sizeof(head) - 1, 0);
    const char *at = head;

    if (count > 0 && g_str_has_prefix(at, "\xEF\xBB\xBF"))
        at += 3;
    while (g_ascii_isspace(*at))
        at++;
    return *at == '<';
}

static bool open_package(struct unpack *unpack, const struct unpack_request *request,
                         GError **error)
{
    struct member alone = {.name = (char *)request->descriptor, .fd = request->package};
    const struct member *descriptor = &alone;

    alone.size = size_of(request->package);
    unpack->archive = !begins_with_markup(request->package);
    if (unpack->archive) {
        unpack->members = tar_list(request->package, alone.size, error);
        descriptor = unpack->members ? find_descriptor(unpack, error) : NULL;
    } else if (!is_descriptor(alone.name)) {
        return fail(error, NULL, "the name of a package's descriptor ends in .ovf");
    }
    return descriptor && read_descriptor(unpack, descriptor, request->manifest, error);
}

static const char *kind_name(enum ovf_kind kind)
{
    static const char *const names[] = {
        [OVF_DISK] = "disk", [OVF_BLANK] = "blank", [OVF_PLAIN] = "plain"};

    return names[kind];
}

static json_t *describe(struct unpack *unpack)
{
    g_autofree char *yaml = definition_to_yaml(unpack->import.definition, false);
    json_t *lost = json_array(), *files = json_array();

    for (unsigned i = 0; i < unpack->import.lost->len; i++)
        json_array_append_new(lost, json_string(unpack->import.lost->pdata[i]));
    for (unsigned i = 0; i < unpack->ovf.files->len; i++) {
        const struct ovf_file *file = unpack->ovf.files->pdata[i];

        json_array_append_new(files, json_pack("{s:s, s:s, s:s*}", "kind", kind_name(file->kind),
                                               "path", file->path, "href", file->href));
    }
    return json_pack("{s:s, s:o, s:o}", "yaml", yaml, "lost", lost, "files", files);
}

json_t *unpack_read(struct unpack *unpack, const struct unpack_request *request, GError **error)
{
    bool good;

    unpack->package = request->package;
    unpack->ovf.name = request->name;
    unpack->ovf.keep_macs = request->keep_macs;
    good = open_package(unpack, request, error);
    if (request->manifest >= 0)
        close(request->manifest);
    unpack->ovf.name = NULL;
    for (unsigned i = 0; good && i < unpack->ovf.files->len; i++) {
        struct target target = {.file = unpack->ovf.files->pdata[i], .fd = -1, .source = -1};

        g_array_append_val(unpack->targets, target);
    }
    return good ? describe(unpack) : NULL;
}

void unpack_give(struct unpack *unpack, unsigned index, int target, int source)
{
    struct target *to;

    if (index >= unpack->targets->len) {
        close(target);
        if (source >= 0)
            close(source);
        return;
    }
    to = &g_array_index(unpack->targets, struct target, index);
    to->fd = target;
    to->source = source;
}

/* ---- the files ---- */

/* Where the file's bytes are, and how many it will have. */
static bool prepare(struct unpack *unpack, struct target *target, uint64_t *need, GError **error)
{
    const struct ovf_file *file = target->file;
    const struct member *member;
    uint64_t bytes;

    if (file->kind == OVF_BLANK)
        return true;
    member = unpack->archive ? find_member(unpack, file->href) : NULL;
    if (unpack->archive ? !member : target->source < 0)
        return fail(error, file->href, "the package has no such file");
    target->member = (struct member){.name = g_strdup(file->href), .fd = target->source};
    target->member.fd = member ? member->fd : target->source;
    target->member.at = member ? member->at : 0;
    target->member.size = member ? member->size : size_of(target->source);
    target->bytes = bytes = target->member.size;
    if (file->kind == OVF_DISK) {
        target->image = vmdk_open(target->member.fd, target->member.at, target->member.size, error);
        if (!target->image || !vmdk_count(target->image, &bytes, error)) {
            g_prefix_error(error, "%s: ", file->href);
            return false;
        }
        target->bytes = vmdk_capacity(target->image);
    }
    *need += bytes;
    return find_digest(unpack, file->href, &target->digest, error);
}

static bool copy_plain(const struct target *target, GError **error)
{
    g_autofree uint8_t *buffer = g_try_malloc(COPY_BYTES);
    const struct member *member = &target->member;
    uint64_t done = 0;

    if (!buffer)
        return fail(error, NULL, "there is no memory to copy it");
    while (done < member->size) {
        ssize_t count = pread(member->fd, buffer, MIN(COPY_BYTES, member->size - done),
                              (off_t)(member->at + done));

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return fail(error, NULL, "it cannot be read");
        for (ssize_t at = 0, put; at < count; at += put) {
            put = pwrite(target->fd, buffer + at, count - at, (off_t)done + at);
            if (put < 0 && errno == EINTR)
                put = 0;
            else if (put < 0)
                return fail(error, NULL, g_strerror(errno));
        }
        done += count;
    }
    return true;
}

/* Bytes of the present file are done. */
static void tell(void *opaque, uint64_t done)
{
    struct unpack *unpack = opaque;

    unpack->progress->tell(unpack->progress->context, unpack->before + done);
}

static bool copy(struct unpack *unpack, const struct target *target, GError **error)
{
    struct vmdk_progress progress = {tell, unpack};
    bool good = true;

    switch (target->file->kind) {
    case OVF_DISK:
        good = vmdk_restore(target->image, target->fd, MIN(g_get_num_processors(), THREADS_MAX),
                            &progress, error);
        break;
    case OVF_BLANK:
        good = ftruncate(target->fd, (off_t)target->file->capacity) == 0 ||
               fail(error, NULL, g_strerror(errno));
        break;
    case OVF_PLAIN:
        good = copy_plain(target, error);
    }
    if (good && fsync(target->fd) != 0)
        good = fail(error, NULL, g_strerror(errno));
    if (!good)
        g_prefix_error(error, "%s: ", target->file->href ? target->file->href : "an empty disk");
    unpack->before += target->bytes;
    tell(unpack, 0);
    return good;
}

static bool copy_all(struct unpack *unpack, GError **error)
{
    for (unsigned i = 0; i < unpack->targets->len; i++)
        if (!copy(unpack, &g_array_index(unpack->targets, struct target, i), error))
            return false;
    return true;
}

/* On a thread of its own. Its error, or NULL. */
static void *check_digests(void *opaque)
{
    struct unpack *unpack = opaque;
    GError *error = NULL;

    for (unsigned i = 0; i < unpack->targets->len; i++) {
        const struct target *target = &g_array_index(unpack->targets, struct target, i);

        if (target->digest && !manifest_check(&target->member, target->digest, &error))
            break;
    }
    return error;
}

static bool check_room(uint64_t need, uint64_t room, GError **error)
{
    g_autofree char *wanted = size_format((need + (1 << 20) - 1) >> 20 << 20);
    g_autofree char *there = size_format(room >> 20 << 20);

    if (need <= room)
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_NO_SPACE,
                "its files take %s, and where machines are kept %s are free", wanted, there);
    return false;
}

bool unpack_copy(struct unpack *unpack, uint64_t room, uint64_t *total,
                 const struct vmdk_progress *progress, GError **error)
{
    GError *digest_error, *copy_error = NULL;
    uint64_t need = 0;
    GThread *checker;

    *total = 0;
    for (unsigned i = 0; i < unpack->targets->len; i++) {
        struct target *target = &g_array_index(unpack->targets, struct target, i);

        if (target->fd < 0)
            return fail(error, target->file->path, "there is no place for it");
        if (!prepare(unpack, target, &need, error))
            return false;
        *total += target->bytes;
    }
    if (!check_room(need, room, error))
        return false;
    unpack->progress = progress;
    checker = g_thread_new("digests", check_digests, unpack);
    copy_all(unpack, &copy_error);
    digest_error = g_thread_join(checker);
    /* It tells more than what comes of reading what was changed. */
    if (digest_error)
        g_clear_error(&copy_error);
    if (!digest_error && !copy_error)
        return true;
    g_propagate_error(error, digest_error ? digest_error : copy_error);
    return false;
}
