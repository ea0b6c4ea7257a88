// SPDX-License-Identifier: Apache-2.0
/*
 * Locks of disks, the same as QEMU's (block/file-posix.c there tells the protocol).
 *
 * Each thing that one may do with an image has a number. Who does it has a shared lock on the byte
 * 100 + number; who does not bear that another does it has one on the byte 200 + number. So nobody
 * waits for anybody: one takes locks first, and looks then whether another has the counterpart of
 * one of them. Two that come at once may both go away; never do both stay.
 *
 * The locks are those of open files (F_OFD_SETLK, fcntl(2)): they go with the descriptor from the
 * monitor to the vmm and its successors.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/paths.h"
#include "config/schema.h"
#include "vmm/monitor/disks.h"

#define DOES_BASE      100
#define BEARS_NOT_BASE 200
#define COMM_MAX       32
#define OWN_COMM       "anima-vmm"

enum {
    READ = 1 << 0,
    WRITE = 1 << 1,
    RESIZE = 1 << 3,
};

/* ---- who has it ---- */

/* From the least telling to the most. */
enum rank { NOBODY, SOMEBODY, EMULATOR, VMM, MONITOR };

struct holder {
    enum rank rank;
    long pid;
    char comm[COMM_MAX];
    char *machine; /* a monitor's; else NULL */
};

/* The machine whose lock the descriptor is, from its link's target ".../NAME/lock"; or NULL. */
static char *machine_of(const char *descriptor)
{
    g_autofree char *target = g_file_read_link(descriptor, NULL);
    g_autofree char *name = target ? g_path_get_basename(target) : NULL;

    if (!name || !g_str_equal(name, CONFIG_LOCK_FILE))
        return NULL;
    g_autofree char *folder = g_path_get_dirname(target);
    return g_path_get_basename(folder);
}

/* Whether the process has the file open; `machine` gets what it runs, if it is a monitor. */
static bool process_has(long pid, const struct stat *file, char **machine)
{
    g_autofree char *folder = g_strdup_printf("/proc/%ld/fd", pid);
    g_autoptr(GDir) descriptors = g_dir_open(folder, 0, NULL);
    const char *entry;
    bool has = false;

    while (descriptors && (entry = g_dir_read_name(descriptors))) {
        g_autofree char *path = g_build_filename(folder, entry, NULL);
        struct stat status;

        has |= stat(path, &status) == 0 && status.st_dev == file->st_dev &&
               status.st_ino == file->st_ino;
        if (!*machine)
            *machine = machine_of(path);
    }
    return has;
}

static void comm_read(long pid, char comm[COMM_MAX])
{
    g_autofree char *path = g_strdup_printf("/proc/%ld/comm", pid);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        text = g_strdup("?");
    g_strlcpy(comm, g_strchomp(text), COMM_MAX);
}

static enum rank rank_of(const char *comm, const char *machine)
{
    if (g_str_equal(comm, OWN_COMM))
        return machine ? MONITOR : VMM;
    return g_str_has_prefix(comm, "qemu") ? EMULATOR : SOMEBODY;
}

static void consider(struct holder *best, long pid, const struct stat *file)
{
    g_autofree char *machine = NULL;
    char comm[COMM_MAX];

    if (pid == getpid() || !process_has(pid, file, &machine))
        return;
    comm_read(pid, comm);
    if (rank_of(comm, machine) <= best->rank)
        return;
    best->rank = rank_of(comm, machine);
    best->pid = pid;
    g_strlcpy(best->comm, comm, sizeof(best->comm));
    g_free(best->machine);
    best->machine = best->rank == MONITOR ? g_steal_pointer(&machine) : NULL;
}

/* "process 1234 (anima-vmm, machine web)". */
static char *describe_holder(int fd)
{
    g_autoptr(GDir) processes = g_dir_open("/proc", 0, NULL);
    struct holder best = {0};
    struct stat file;
    const char *entry;

    if (!processes || fstat(fd, &file) != 0)
        return g_strdup("another process");
    while ((entry = g_dir_read_name(processes)))
        if (g_ascii_isdigit(entry[0]))
            consider(&best, strtol(entry, NULL, 10), &file);
    if (best.rank == NOBODY)
        return g_strdup("a process of another user, or on another host");
    g_autofree char *machine = best.machine;
    return machine ? g_strdup_printf("process %ld (%s, machine %s)", best.pid, best.comm, machine)
                   : g_strdup_printf("process %ld (%s)", best.pid, best.comm);
}

/* ---- the locks ---- */

static struct flock byte_of(unsigned base, unsigned number, short type)
{
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = base + number, .l_len = 1};
}

/* 0 or an errno. */
static int take(int fd, unsigned base, unsigned numbers)
{
    for (unsigned i = 0; numbers >> i; i++) {
        struct flock lock = byte_of(base, i, F_RDLCK);

        if (numbers & 1U << i && fcntl(fd, F_OFD_SETLK, &lock) != 0)
            return errno;
    }
    return 0;
}

/* Whether another has a lock on one of the bytes; an error counts as one. */
static bool is_taken(int fd, unsigned base, unsigned numbers)
{
    for (unsigned i = 0; numbers >> i; i++) {
        struct flock lock = byte_of(base, i, F_WRLCK);

        if (numbers & 1U << i && (fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK))
            return true;
    }
    return false;
}

bool disk_lock(int fd, const char *path, bool readonly, GError **error)
{
    unsigned does = readonly ? READ : READ | WRITE, bears_not = WRITE | RESIZE;
    int problem = take(fd, DOES_BASE, does);

    if (!problem)
        problem = take(fd, BEARS_NOT_BASE, bears_not);
    if (problem && problem != EAGAIN && problem != EACCES) {
        if (readonly)
            return true;
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    "disk: %s: it cannot be locked against other machines (%s); move it to "
                    "another file system, or open it read-only with ,readonly",
                    path, g_strerror(problem));
        return false;
    }
    if (!problem && !is_taken(fd, BEARS_NOT_BASE, does) && !is_taken(fd, DOES_BASE, bears_not))
        return true;
    g_autofree char *holder = describe_holder(fd);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "disk: %s: in use by %s", path, holder);
    return false;
}
