// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock (landlock(7), by its system calls): all that it can forbid is forbidden, but for reading
 * below the folders that the role reads. Descriptors that are open already are not touched by it.
 */
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/monitor/sandbox_internal.h"

/* Landlock's interface grew; these are the parts that older headers lack. */
struct landlock_rules {
    uint64_t fs, net, scoped;
};
#define LANDLOCK_FS_ABI1     0x1FFFULL    /* 13 rights of version 1 */
#define LANDLOCK_FS_REFER    (1ULL << 13) /* 2 */
#define LANDLOCK_FS_TRUNCATE (1ULL << 14) /* 3 */
#define LANDLOCK_FS_IOCTL    (1ULL << 15) /* 5 */
#define LANDLOCK_NET_TCP     3ULL         /* 4: bind and connect */
#define LANDLOCK_SCOPES      3ULL         /* 6: abstract sockets and signals */

static const char *readable[SANDBOX_READABLE_MAX];
static unsigned readable_count;

void sandbox_allow_reading(const char *folder)
{
    if (readable_count < SANDBOX_READABLE_MAX)
        readable[readable_count++] = folder;
}

/* Let files in `folder` be read. */
static void allow_reading(int ruleset, const char *folder, uint64_t rights)
{
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = rights,
        .parent_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC),
    };

    if (beneath.parent_fd < 0)
        return;
    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
    close(beneath.parent_fd);
}

/* Where the list of resolvers lies, and where the file is to which it may be a link. That file is
 * not written anew but replaced, so that a rule for it alone would hold for the old one. In a root
 * folder of its own the process finds nothing else there. */
static void allow_resolvers(int ruleset)
{
    g_autofree char *folder = g_path_get_dirname(SANDBOX_RESOLVERS);
    char *target = realpath(SANDBOX_RESOLVERS, NULL);

    allow_reading(ruleset, folder, LANDLOCK_ACCESS_FS_READ_FILE);
    if (target) {
        g_autofree char *target_folder = g_path_get_dirname(target);

        allow_reading(ruleset, target_folder, LANDLOCK_ACCESS_FS_READ_FILE);
    }
    free(target);
}

static void add_rules(const struct sandbox_profile *profile, int ruleset)
{
    if (profile->resolvers)
        allow_resolvers(ruleset);
    for (unsigned i = 0; profile->reads && i < readable_count; i++)
        allow_reading(ruleset, readable[i],
                      LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
}

void sandbox_landlock_enter(const struct sandbox_profile *profile, struct sandbox_report *report)
{
    int abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_rules rules = {
        .fs = LANDLOCK_FS_ABI1 | (abi >= 2 ? LANDLOCK_FS_REFER : 0) |
              (abi >= 3 ? LANDLOCK_FS_TRUNCATE : 0) | (abi >= 5 ? LANDLOCK_FS_IOCTL : 0),
        .net = abi >= 4 && !profile->network ? LANDLOCK_NET_TCP : 0,
        .scoped = abi >= 6 ? LANDLOCK_SCOPES : 0,
    };
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    int fd;

    if (abi < 1)
        return;
    fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return;
    add_rules(profile, fd);
    if (syscall(SYS_landlock_restrict_self, fd, 0) == 0)
        report->landlock = abi;
    close(fd);
}
