// SPDX-License-Identifier: Apache-2.0
/*
 * Packages: archives, manifests and descriptors of any bytes. Members of an archive lie in it and
 * have names that lead nowhere; a definition names nothing but the package's own files.
 */
#include "tests/fuzz/fuzz.h"

#include "vmm/import/manifest.h"
#include "vmm/import/ovf.h"

static void require_line(const char *text)
{
    fuzz_require(text && !strchr(text, '\n'));
}

static void try_archive(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    int fd = fuzz_file(data, size);
    GPtrArray *members = tar_list(fd, size, &error);

    fuzz_require(members || error);
    for (unsigned i = 0; members && i < members->len; i++) {
        const struct member *member = members->pdata[i];

        fuzz_require(member->at <= size && member->size <= size - member->at);
        fuzz_require(*member->name && !strchr(member->name, '/') && strcmp(member->name, ".."));
    }
    if (error)
        require_line(error->message);
    if (members)
        g_ptr_array_unref(members);
    close(fd);
}

static void try_manifest(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    GHashTable *digests = manifest_read((const char *)data, size, &error);

    fuzz_require(digests || error);
    if (error)
        require_line(error->message);
    if (digests)
        g_hash_table_unref(digests);
}

static void require_contained(const struct ovf *ovf)
{
    g_autofree char **paths = g_new0(char *, ovf->files->len + 1);

    for (unsigned i = 0; i < ovf->files->len; i++)
        paths[i] = ((struct ovf_file *)ovf->files->pdata[i])->path;
    fuzz_require(ovf_check_paths(ovf->import->definition, paths, ovf->files->len, NULL));
}

static void try_descriptor(const uint8_t *data, size_t size, bool renamed)
{
    g_autoptr(GError) error = NULL;
    struct import import;
    struct ovf ovf;

    import_init(&import);
    ovf_init(&ovf, &import);
    ovf.name = renamed ? "other" : NULL;
    if (ovf_read(&ovf, (const char *)data, size, &error))
        require_contained(&ovf);
    else
        require_line(error->message);
    for (unsigned i = 0; i < import.lost->len; i++)
        require_line(import.lost->pdata[i]);
    ovf_finish(&ovf);
    import_finish(&import);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};

    switch (fuzz_byte(&input) % 4) {
    case 0:
        try_archive(input.data, input.size);
        break;
    case 1:
        try_manifest(input.data, input.size);
        break;
    case 2:
        try_descriptor(input.data, input.size, false);
        break;
    default:
        try_descriptor(input.data, input.size, true);
    }
    return 0;
}
