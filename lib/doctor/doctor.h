// SPDX-License-Identifier: Apache-2.0
/*
 * Examining a host: a table of checks (doctor.c), each a function that looks at one thing and says
 * how it is, what that means for Anima, and how to mend it. What a check reads lies below `root`,
 * and what only a system call tells is gathered beforehand (host.c), so tests show it any host.
 * Private to libanima.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum doctor_level {
    DOCTOR_OK,
    DOCTOR_NOTE,    /* something is missing that machines do without */
    DOCTOR_PROBLEM, /* something does not work */
    DOCTOR_STOP,    /* no machine runs */
};

struct doctor_host {
    const char *root; /* before each path; "" for the true host */
    const char *user;
    uid_t uid;
    const gid_t *groups; /* that the user is in */
    unsigned group_count;
    const char *release;       /* of its kernel */
    const json_t *found;       /* by "anima-vmm examine"; NULL: */
    const char *found_error;   /* why it cannot be run */
    bool nat, osinfo;          /* this build has the helper */
    const char *bridge_helper; /* path of anima-bridge; NULL: there is none */
    bool bridge_capable;       /* it has its file capability */
    rlim_t descriptors, processes;
    rlim_t locked;                              /* bytes of memory */
    const char *data_folder, *data_error;       /* error: NULL: it can be written to */
    const char *runtime_folder, *runtime_error; /* so here */
    uint64_t data_free;                         /* bytes there */
    const char *data_kind;                      /* of its file system: "ext4"; NULL: not known */
};

/* What a check says. */
struct doctor_finding {
    enum doctor_level level;
    char *text;   /* one line */
    char *remedy; /* a command, or what to write where; NULL: there is none */
};

struct doctor_check {
    const char *name;  /* a word */
    const char *about; /* what is looked at */
    void (*run)(const struct doctor_host *host, struct doctor_finding *finding);
};

/* Ends with a NULL name. */
extern const struct doctor_check doctor_checks[];

/* All of them: {"checks": [{"name", "about", "level", "text", "remedy"}], "runs": BOOL}; `runs`:
 * nothing keeps machines from running. */
json_t *doctor_examine(const struct doctor_host *host);

/* ---- for checks ---- */

/* Say it, once. `remedy` is copied, and may be NULL. */
void doctor_say(struct doctor_finding *finding, enum doctor_level level, const char *remedy,
                const char *format, ...) G_GNUC_PRINTF(4, 5);

/* The content of a file of the host without the white space at its end; NULL: it cannot be read. */
char *doctor_read(const struct doctor_host *host, const char *path);
/* Whether something is there. */
bool doctor_exists(const struct doctor_host *host, const char *path);
/* A number in a file, or `otherwise`. */
int64_t doctor_number(const struct doctor_host *host, const char *path, int64_t otherwise);
/* The names in a folder, sorted; none when there is no folder. */
char **doctor_list(const struct doctor_host *host, const char *path);
/* Whether `word` stands among the words of the line of /proc/cpuinfo that begins with "flags". */
bool doctor_has_flag(const struct doctor_host *host, const char *word);
/* The command that puts a sysctl to a value, for now and for later. */
char *doctor_sysctl(const char *name, const char *value);

/* ---- the checks ---- */

void check_program(const struct doctor_host *host, struct doctor_finding *finding);
void check_kernel(const struct doctor_host *host, struct doctor_finding *finding);
void check_seccomp(const struct doctor_host *host, struct doctor_finding *finding);
void check_namespaces(const struct doctor_host *host, struct doctor_finding *finding);
void check_landlock(const struct doctor_host *host, struct doctor_finding *finding);
void check_io_uring(const struct doctor_host *host, struct doctor_finding *finding);
void check_userfaultfd(const struct doctor_host *host, struct doctor_finding *finding);
void check_cgroups(const struct doctor_host *host, struct doctor_finding *finding);
void check_mappings(const struct doctor_host *host, struct doctor_finding *finding);
void check_limits(const struct doctor_host *host, struct doctor_finding *finding);
void check_locked_memory(const struct doctor_host *host, struct doctor_finding *finding);

void check_cpu(const struct doctor_host *host, struct doctor_finding *finding);
void check_virtualization(const struct doctor_host *host, struct doctor_finding *finding);
void check_kvm(const struct doctor_host *host, struct doctor_finding *finding);
void check_nested(const struct doctor_host *host, struct doctor_finding *finding);
void check_clock(const struct doctor_host *host, struct doctor_finding *finding);
void check_memory(const struct doctor_host *host, struct doctor_finding *finding);
void check_huge_pages(const struct doctor_host *host, struct doctor_finding *finding);
void check_iommu(const struct doctor_host *host, struct doctor_finding *finding);

void check_tun(const struct doctor_host *host, struct doctor_finding *finding);
void check_bridges(const struct doctor_host *host, struct doctor_finding *finding);
void check_bridge_helper(const struct doctor_host *host, struct doctor_finding *finding);
void check_nat(const struct doctor_host *host, struct doctor_finding *finding);

void check_machines_folder(const struct doctor_host *host, struct doctor_finding *finding);
void check_runtime_folder(const struct doctor_host *host, struct doctor_finding *finding);
void check_systemd(const struct doctor_host *host, struct doctor_finding *finding);
void check_firmware(const struct doctor_host *host, struct doctor_finding *finding);
void check_osinfo(const struct doctor_host *host, struct doctor_finding *finding);
