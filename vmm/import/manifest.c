// SPDX-License-Identifier: Apache-2.0
/*
 * Digests are those of GLib. A manifest says how a file was when the package was made; who made it,
 * only a signature would tell.
 */
#include "vmm/import/manifest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util/fault.h"

#define BUFFER (256U << 10)

static const struct {
    const char *name;
    GChecksumType type;
} algorithms[] = {
    {"SHA1", G_CHECKSUM_SHA1},
    {"SHA256", G_CHECKSUM_SHA256},
    {"SHA384", G_CHECKSUM_SHA384},
    {"SHA512", G_CHECKSUM_SHA512},
};

static bool fail(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "its manifest: %s", what);
    return false;
}

static void digest_free(struct digest *digest)
{
    g_free(digest->text);
    g_free(digest);
}

static bool find_algorithm(const char *name, GChecksumType *type)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(algorithms); i++)
        if (g_ascii_strcasecmp(algorithms[i].name, name) == 0) {
            *type = algorithms[i].type;
            return true;
        }
    return false;
}

static bool is_digest(const char *text, GChecksumType type)
{
    size_t length = strlen(text);

    return length == (size_t)g_checksum_type_get_length(type) * 2 &&
           strspn(text, "0123456789abcdef") == length;
}

/* "ALGORITHM(NAME)= DIGEST", with space anywhere between. */
static bool take_line(GHashTable *digests, const char *line, GError **error)
{
    const char *open = strchr(line, '('), *close = strrchr(line, ')');
    g_autofree char *algorithm = NULL, *name = NULL, *text = NULL;
    struct digest *digest;
    GChecksumType type;

    if (!open || !close || close < open || *(close + 1 + strspn(close + 1, " \t")) != '=')
        return fail(error, "it has a line that says no digest of a file");
    algorithm = g_strstrip(g_strndup(line, open - line));
    name = g_strndup(open + 1, close - open - 1);
    text = g_strstrip(g_ascii_strdown(strchr(close, '=') + 1, -1));
    if (!find_algorithm(algorithm, &type))
        return fail(error, "its digests are none of SHA1, SHA256, SHA384, SHA512");
    if (!is_digest(text, type))
        return fail(error, "it has a digest that is none");
    if (g_hash_table_contains(digests, name))
        return fail(error, "it tells of a file twice");
    digest = g_new0(struct digest, 1);
    digest->type = type;
    digest->text = g_steal_pointer(&text);
    g_hash_table_insert(digests, g_steal_pointer(&name), digest);
    return true;
}

GHashTable *manifest_read(const char *text, size_t size, GError **error)
{
    GHashTable *digests =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)digest_free);
    g_autofree char *copy = g_strndup(text, size);
    g_auto(GStrv) lines = g_strsplit_set(copy, "\r\n", -1);
    bool good = true;

    for (char **line = lines; good && *line; line++)
        if (*g_strstrip(*line))
            good = take_line(digests, *line, error);
    if (good)
        return digests;
    g_hash_table_unref(digests);
    return NULL;
}

static bool add_up(GChecksum *sum, const struct member *member, uint8_t *buffer, GError **error)
{
    uint64_t done = 0;

    while (done < member->size) {
        ssize_t count =
            pread(member->fd, buffer, MIN(BUFFER, member->size - done), (off_t)(member->at + done));

        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: it cannot be read: %s",
                        member->name, count ? g_strerror(errno) : "it is cut off");
            return false;
        }
        g_checksum_update(sum, buffer, count);
        done += count;
    }
    return true;
}

bool manifest_check(const struct member *member, const struct digest *digest, GError **error)
{
    GChecksum *sum = g_checksum_new(digest->type);
    g_autofree uint8_t *buffer = g_try_malloc(BUFFER);
    bool good =
        buffer ? add_up(sum, member, buffer, error) : fail(error, "there is no memory to check it");

    if (good && !g_str_equal(g_checksum_get_string(sum), digest->text)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: it is not as the package's manifest has it; it is damaged or was changed",
                    member->name);
        good = false;
    }
    g_checksum_free(sum);
    return good;
}

char *manifest_line(const char *name, GChecksum *sum)
{
    return g_strdup_printf("SHA256(%s)= %s\n", name, g_checksum_get_string(sum));
}
