// SPDX-License-Identifier: Apache-2.0
/*
 * Folders of machines. What is not finished has a name that begins with a dot, as no machine's
 * does; two writers of one definition take turns by a lock on its folder.
 */
#include "config/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/limits.h"
#include "config/paths.h"
#include "config/schema.h"
#include "config/values.h"

#define FRESH_FILE   "." CONFIG_FILE ".new" /* beside the definition, under the folder's lock */
#define WALK_FDS     16                     /* open folders while one is removed */
#define NAME_TRIES   64
#define FOLDER_MODE  0700
#define DEFAULT_MODE 0600

static bool fail(const char *path, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    return false;
}

static bool absent(const char *name, GError **error)
{
    g_autofree char *folder = data_folder();

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                "%s: no machine of this name is defined (in %s)", name, folder);
    return false;
}

bool store_check_name(const char *name, GError **error)
{
    struct option_value value;

    if (option_parse(&options[OPTION_NAME], name, &value, error)) {
        g_free(value.text);
        return true;
    }
    g_prefix_error(error, "name: ");
    return false;
}

/* Write the whole file and see it on the disk. */
static bool write_file(int folder, const char *file, const char *text, mode_t mode)
{
    int fd = openat(folder, file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    size_t left = strlen(text);
    bool good = fd >= 0 && fchmod(fd, mode) == 0;

    while (good && left) {
        ssize_t count = write(fd, text, left);

        good = count > 0 || (count < 0 && errno == EINTR);
        if (count > 0) {
            text += count;
            left -= count;
        }
    }
    good = good && fsync(fd) == 0;
    if (fd >= 0) {
        int problem = errno;

        close(fd);
        errno = problem;
    }
    return good;
}

/* ---- removing ---- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    return remove(path);
}

static bool remove_tree(const char *path)
{
    return nftw(path, remove_one, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0;
}

/* Rename the folder to a name that is free and no machine's. NULL with errno. */
static char *hide(const char *base, const char *path, const char *name)
{
    for (unsigned i = 0; i < NAME_TRIES; i++) {
        g_autofree char *leaf = g_strdup_printf(".%s.deleted-%08x", name, g_random_int());
        g_autofree char *hidden = g_build_filename(base, leaf, NULL);

        if (renameat2(AT_FDCWD, path, AT_FDCWD, hidden, RENAME_NOREPLACE) == 0)
            return g_steal_pointer(&hidden);
        if (errno != EEXIST)
            break;
    }
    return NULL;
}

bool store_delete(const char *name, bool (*may)(const char *name, GError **error), GError **error)
{
    g_autofree char *base = data_folder(), *path = g_build_filename(base, name, NULL);
    g_autofree char *hidden = NULL;

    if (!store_check_name(name, error))
        return false;
    hidden = hide(base, path, name);
    if (!hidden)
        return errno == ENOENT ? absent(name, error) : fail(path, error);
    if (!may(name, error)) {
        renameat2(AT_FDCWD, hidden, AT_FDCWD, path, RENAME_NOREPLACE);
        return false;
    }
    return remove_tree(hidden) || fail(hidden, error);
}

/* ---- creating ---- */

/* A folder beside those of the machines, which none of them can be. NULL and an error. */
static char *make_hidden(const char *base, GError **error)
{
    char *path = g_build_filename(base, ".new-XXXXXX", NULL);

    if (g_mkdir_with_parents(base, FOLDER_MODE) == 0 && mkdtemp(path))
        return path;
    fail(base, error);
    g_free(path);
    return NULL;
}

/* Write what is in the new folder. */
static bool fill(const char *path, const char *text)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good =
        folder >= 0 && write_file(folder, CONFIG_FILE, text, DEFAULT_MODE) && fsync(folder) == 0;

    if (folder >= 0)
        close(folder);
    return good;
}

static void sync_folder(const char *path)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return;
    fsync(folder);
    close(folder);
}

bool store_create(const char *name, const char *text, GError **error)
{
    g_autofree char *base = data_folder(), *path = g_build_filename(base, name, NULL);
    g_autofree char *fresh = NULL;

    if (!store_check_name(name, error))
        return false;
    fresh = make_hidden(base, error);
    if (!fresh)
        return false;
    if (fill(fresh, text) && renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_NOREPLACE) == 0) {
        sync_folder(base);
        return true;
    }
    if (errno == EEXIST)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                    "%s: a machine of this name is there already (%s); choose another name", name,
                    path);
    else
        fail(path, error);
    remove_tree(fresh);
    return false;
}

/* ---- reading and replacing ---- */

/* The folder of a machine; -1 with an error. */
static int open_folder(const char *name, GError **error)
{
    g_autofree char *base = data_folder(), *path = g_build_filename(base, name, NULL);
    int folder = -1;

    if (!store_check_name(name, error))
        return -1;
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 && (errno == ENOENT || errno == ENOTDIR))
        absent(name, error);
    else if (folder < 0)
        fail(path, error);
    return folder;
}

/* What is in the file; NULL with an error. Zero bytes would hide what follows them. */
static char *read_text(const char *name, GError **error)
{
    g_autofree char *path = definition_path(name);
    GByteArray *bytes = definition_read_file(path, error);
    char *text;

    if (!bytes)
        return NULL;
    text = g_strndup((char *)bytes->data, bytes->len);
    if (strlen(text) != bytes->len) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: a zero byte in the text", path);
        g_clear_pointer(&text, g_free);
    }
    g_byte_array_unref(bytes);
    return text;
}

char *store_read(const char *name, GError **error)
{
    g_autofree char *path = definition_path(name);

    if (!store_check_name(name, error))
        return NULL;
    if (access(path, F_OK) == 0)
        return read_text(name, error);
    absent(name, error);
    return NULL;
}

/* The file's mode as it was: somebody may have opened it for his group. */
static mode_t mode_in(int folder)
{
    struct stat status;

    return fstatat(folder, CONFIG_FILE, &status, 0) == 0 ? status.st_mode & 0777 : DEFAULT_MODE;
}

/* Under the folder's lock. */
static bool replace_locked(int folder, const char *name, const char *before, const char *text,
                           GError **error)
{
    g_autofree char *now = read_text(name, error);
    g_autofree char *path = definition_path(name);

    if (!now)
        return false;
    if (!g_str_equal(now, before)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                    "%s: somebody else has changed it meanwhile; edit it again", path);
        return false;
    }
    if (write_file(folder, FRESH_FILE, text, mode_in(folder)) &&
        renameat(folder, FRESH_FILE, folder, CONFIG_FILE) == 0 && fsync(folder) == 0)
        return true;
    fail(path, error);
    unlinkat(folder, FRESH_FILE, 0);
    return false;
}

bool store_replace(const char *name, const char *before, const char *text, GError **error)
{
    int folder = open_folder(name, error);
    bool good;

    if (folder < 0)
        return false;
    while (flock(folder, LOCK_EX) != 0 && errno == EINTR)
        continue;
    good = replace_locked(folder, name, before, text, error);
    close(folder);
    return good;
}

/* ---- listing ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **store_list(GError **error)
{
    g_autofree char *base = data_folder();
    DIR *folder = opendir(base);
    GPtrArray *names = g_ptr_array_new();
    struct dirent *entry;

    if (!folder && errno != ENOENT) {
        fail(base, error);
        g_ptr_array_unref(names);
        return NULL;
    }
    while (folder && (entry = readdir(folder))) {
        g_autofree char *file = g_build_filename(entry->d_name, CONFIG_FILE, NULL);

        if (store_check_name(entry->d_name, NULL) && faccessat(dirfd(folder), file, F_OK, 0) == 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    }
    if (folder)
        closedir(folder);
    if (names->len)
        qsort(names->pdata, names->len, sizeof(char *), compare);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
