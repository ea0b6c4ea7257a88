// SPDX-License-Identifier: Apache-2.0
/*
 * The runtime folder. Under /tmp anybody may have been there first, so that an existing folder is
 * taken only when it belongs to this user and nobody else may write to it.
 */
#include "config/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/schema.h"

char *runtime_folder(void)
{
    const char *folder = getenv("ANIMA_RUNTIME_DIR");
    const char *user_folder = getenv("XDG_RUNTIME_DIR");

    if (folder && g_path_is_absolute(folder))
        return g_strdup(folder);
    if (geteuid() == 0)
        return g_strdup("/run/anima");
    if (user_folder && g_path_is_absolute(user_folder))
        return g_build_filename(user_folder, "anima", NULL);
    return g_strdup_printf("/tmp/anima-%u", geteuid());
}

int runtime_folder_open(GError **error)
{
    g_autofree char *path = runtime_folder();
    struct stat status;
    int fd = -1;

    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "%s: %s", path, g_strerror(errno));
        return -1;
    }
    if (fstat(fd, &status) == 0 && status.st_uid == geteuid() && !(status.st_mode & 022))
        return fd;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "%s: not a folder that only this user may write to; remove it", path);
    close(fd);
    return -1;
}

char *data_folder(void)
{
    const char *folder = getenv("ANIMA_DATA_DIR");

    if (folder && g_path_is_absolute(folder))
        return g_strdup(folder);
    if (geteuid() == 0)
        return g_strdup("/var/lib/anima");
    return g_build_filename(g_get_user_data_dir(), "anima", NULL);
}

char *definition_path(const char *name)
{
    g_autofree char *folder = data_folder();
    return g_build_filename(folder, name, CONFIG_FILE, NULL);
}
