// SPDX-License-Identifier: Apache-2.0
/*
 * Folders of definitions. What is not finished has a name that begins with a dot, as nothing that
 * is defined has; two writers of one definition take turns by a lock on its folder.
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

#define FRESH_FILE   ".definition.new" /* beside the definition, under the folder's lock */
#define WALK_FDS     16                /* open folders while one is removed */
#define NAME_TRIES   64
#define FOLDER_MODE  0700
#define DEFAULT_MODE 0600

static bool fail(const char *path, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
    return false;
}

const struct store store_machines = {"machine", "", CONFIG_FILE};
const struct store store_networks = {"network", CONFIG_NETWORKS, CONFIG_NETWORK_FILE};

/* Where the folders lie. */
static char *store_base(const struct store *store)
{
    g_autofree char *data = data_folder();

    return g_build_filename(data, *store->folder ? store->folder : NULL, NULL);
}

char *store_path(const struct store *store, const char *name)
{
    g_autofree char *base = store_base(store);

    return g_build_filename(base, name, store->file, NULL);
}

static bool absent(const struct store *store, const char *name, GError **error)
{
    g_autofree char *base = store_base(store);

    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_ABSENT,
                "%s: no %s of this name is defined (in %s)", name, store->what, base);
    return false;
}

bool store_check_name(const struct store *store, const char *name, GError **error)
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

/* Rename the folder to a name that is free, and nobody's. NULL with errno. */
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

bool store_delete(const struct store *store, const char *name,
                  bool (*may)(const char *name, GError **error), GError **error)
{
    g_autofree char *base = store_base(store), *path = g_build_filename(base, name, NULL);
    g_autofree char *hidden = NULL;

    if (!store_check_name(store, name, error))
        return false;
    /* Before as well, so that what may not be deleted never leaves its place, where somebody could
     * make another one meanwhile. */
    if (access(path, F_OK) == 0 && !may(name, error))
        return false;
    hidden = hide(base, path, name);
    if (!hidden)
        return errno == ENOENT ? absent(store, name, error) : fail(path, error);
    if (!may(name, error)) {
        renameat2(AT_FDCWD, hidden, AT_FDCWD, path, RENAME_NOREPLACE);
        return false;
    }
    return remove_tree(hidden) || fail(hidden, error);
}

/* ---- creating ---- */

/* A folder beside the others, which none of them can be, is locked as long as somebody
 * works on it. */
#define DRAFT_PREFIX ".new-"

struct store_draft {
    const struct store *store;
    char *name;
    char *path;
    int lock; /* the folder, open and locked; -1: it is not there any more */
};

/* Remove what is left of those whose makers have died. */
static void sweep_drafts(const char *base)
{
    g_autoptr(GDir) folder = g_dir_open(base, 0, NULL);
    const char *leaf;

    while (folder && (leaf = g_dir_read_name(folder))) {
        g_autofree char *path = g_build_filename(base, leaf, NULL);
        int fd = g_str_has_prefix(leaf, DRAFT_PREFIX)
                     ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                     : -1;

        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_tree(path);
        if (fd >= 0)
            close(fd);
    }
}

/* Whether `path` still is the folder `fd`. */
static bool is_same(int fd, const char *path)
{
    struct stat opened, named;

    return fstat(fd, &opened) == 0 && stat(path, &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

/* Make the folder and lock it. Somebody who sweeps may take it away in between. False with errno.
 */
static bool make_folder(struct store_draft *draft, const char *base)
{
    for (unsigned i = 0; i < NAME_TRIES; i++) {
        g_free(draft->path);
        draft->path = g_build_filename(base, DRAFT_PREFIX "XXXXXX", NULL);
        if (!mkdtemp(draft->path))
            return false;
        draft->lock = open(draft->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (draft->lock >= 0 && flock(draft->lock, LOCK_EX | LOCK_NB) == 0 &&
            is_same(draft->lock, draft->path))
            return true;
        if (draft->lock >= 0)
            close(draft->lock);
        draft->lock = -1;
    }
    errno = EBUSY;
    return false;
}

static bool taken(const struct store *store, const char *name, const char *path, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                "%s: a %s of this name is there already (%s); choose another name", name,
                store->what, path);
    return false;
}

struct store_draft *store_draft_begin(const struct store *store, const char *name, GError **error)
{
    g_autofree char *base = store_base(store), *path = g_build_filename(base, name, NULL);
    struct store_draft *draft;

    if (!store_check_name(store, name, error))
        return NULL;
    if (access(path, F_OK) == 0) {
        taken(store, name, path, error);
        return NULL;
    }
    draft = g_new0(struct store_draft, 1);
    draft->store = store;
    draft->name = g_strdup(name);
    draft->lock = -1;
    sweep_drafts(base);
    if (g_mkdir_with_parents(base, FOLDER_MODE) == 0 && make_folder(draft, base))
        return draft;
    fail(base, error);
    store_draft_destroy(draft);
    return NULL;
}

const char *store_draft_folder(const struct store_draft *draft)
{
    return draft->path;
}

static void sync_folder(const char *path)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return;
    fsync(folder);
    close(folder);
}

bool store_draft_keep(struct store_draft *draft, const char *text, GError **error)
{
    const struct store *store = draft->store;
    g_autofree char *base = store_base(store), *path = g_build_filename(base, draft->name, NULL);

    if (write_file(draft->lock, store->file, text, DEFAULT_MODE) && fsync(draft->lock) == 0 &&
        renameat2(AT_FDCWD, draft->path, AT_FDCWD, path, RENAME_NOREPLACE) == 0) {
        sync_folder(base);
        close(draft->lock);
        draft->lock = -1;
        return true;
    }
    return errno == EEXIST ? taken(store, draft->name, path, error) : fail(path, error);
}

void store_draft_destroy(struct store_draft *draft)
{
    if (!draft)
        return;
    if (draft->lock >= 0) {
        remove_tree(draft->path);
        close(draft->lock);
    }
    g_free(draft->name);
    g_free(draft->path);
    g_free(draft);
}

bool store_create(const struct store *store, const char *name, const char *text, GError **error)
{
    struct store_draft *draft = store_draft_begin(store, name, error);
    bool good = draft && store_draft_keep(draft, text, error);

    store_draft_destroy(draft);
    return good;
}

/* ---- reading and replacing ---- */

/* The folder of a definition; -1 with an error. */
static int open_folder(const struct store *store, const char *name, GError **error)
{
    g_autofree char *base = store_base(store), *path = g_build_filename(base, name, NULL);
    int folder = -1;

    if (!store_check_name(store, name, error))
        return -1;
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 && (errno == ENOENT || errno == ENOTDIR))
        absent(store, name, error);
    else if (folder < 0)
        fail(path, error);
    return folder;
}

/* What is in the file; NULL with an error. Zero bytes would hide what follows them. */
static char *read_text(const struct store *store, const char *name, GError **error)
{
    g_autofree char *path = store_path(store, name);
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

/* Whether errno says that there is nothing of this name, and not that somebody may not look. */
static bool is_absence(void)
{
    return errno == ENOENT || errno == ENOTDIR;
}

char *store_read(const struct store *store, const char *name, GError **error)
{
    g_autofree char *path = store_path(store, name);

    if (!store_check_name(store, name, error))
        return NULL;
    if (access(path, F_OK) == 0)
        return read_text(store, name, error);
    if (is_absence())
        absent(store, name, error);
    else
        fail(path, error);
    return NULL;
}

/* The file's mode as it was: somebody may have opened it for his group. */
static mode_t mode_in(const struct store *store, int folder)
{
    struct stat status;

    return fstatat(folder, store->file, &status, 0) == 0 ? status.st_mode & 0777 : DEFAULT_MODE;
}

/* Under the folder's lock. */
static bool replace_locked(const struct store *store, int folder, const char *name,
                           const char *before, const char *text, GError **error)
{
    g_autofree char *now = read_text(store, name, error);
    g_autofree char *path = store_path(store, name);

    if (!now)
        return false;
    if (!g_str_equal(now, before)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                    "%s: somebody else has changed it meanwhile; edit it again", path);
        return false;
    }
    if (write_file(folder, FRESH_FILE, text, mode_in(store, folder)) &&
        renameat(folder, FRESH_FILE, folder, store->file) == 0 && fsync(folder) == 0)
        return true;
    fail(path, error);
    unlinkat(folder, FRESH_FILE, 0);
    return false;
}

bool store_replace(const struct store *store, const char *name, const char *before,
                   const char *text, GError **error)
{
    int folder = open_folder(store, name, error);
    bool good;

    if (folder < 0)
        return false;
    while (flock(folder, LOCK_EX) != 0 && errno == EINTR)
        continue;
    good = replace_locked(store, folder, name, before, text, error);
    close(folder);
    return good;
}

/* ---- listing ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **store_list(const struct store *store, GError **error)
{
    g_autofree char *base = store_base(store);
    DIR *folder = opendir(base);
    GPtrArray *names = g_ptr_array_new();
    struct dirent *entry;

    if (!folder && errno != ENOENT) {
        fail(base, error);
        g_ptr_array_unref(names);
        return NULL;
    }
    while (folder && (entry = readdir(folder))) {
        g_autofree char *file = g_build_filename(entry->d_name, store->file, NULL);

        if (store_check_name(store, entry->d_name, NULL) &&
            (faccessat(dirfd(folder), file, F_OK, 0) == 0 || !is_absence()))
            g_ptr_array_add(names, g_strdup(entry->d_name));
    }
    if (folder)
        closedir(folder);
    if (names->len)
        qsort(names->pdata, names->len, sizeof(char *), compare);
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(names, FALSE);
}
