// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors of packages (DMTF DSP0243, "Open Virtualization Format", versions 1 and 2), read as
 * definitions and written from them.
 *
 * What other programs understand stands in the descriptor's hardware section. Beside it stands a
 * section of our own, which they may ignore: each option as the definition has it, so that a
 * package of ours gives the same machine. Neither says anything of the host that it is read on: an
 * option that names a file or an interface there is never taken from a package, nor written.
 */
#pragma once

#include "vmm/import/import.h"

#define OVF_NAMESPACE   "http://schemas.dmtf.org/ovf/envelope/1"
#define OVF_NAMESPACE_2 "http://schemas.dmtf.org/ovf/envelope/2"
#define OVF_SECTION     "MachineSection" /* our own */
#define OVF_SECTION_NS  "urn:anima:ovf:machine:1"

#define OVF_FILES_MAX 128 /* of one machine's disks and other files */

/* ---- what a machine has of a package ---- */

enum ovf_kind {
    OVF_DISK,  /* a raw file is made of an image */
    OVF_BLANK, /* an empty disk is made; nothing of the package */
    OVF_PLAIN, /* a copy: a kernel, say */
};

struct ovf_file {
    enum ovf_kind kind;
    char *href;        /* the member; NULL for BLANK */
    uint64_t capacity; /* BLANK: bytes */
    char *path;        /* relative to the machine's folder; the definition has it so */
};

/* The descriptor as it is read. */
struct ovf {
    struct import *import;
    const char *name; /* that the machine gets; NULL: its own */
    bool keep_macs;   /* under another name too */

    /* Private: */
    xmlNode *envelope;
    xmlNode *system;
    GPtrArray *files; /* of struct ovf_file * */
    char *own_name;   /* that the package has */
    unsigned disks, modules;
};

void ovf_init(struct ovf *ovf, struct import *import);
void ovf_finish(struct ovf *ovf);

/* Read a descriptor: the definition, with paths of `files`, and what is lost. CONFIG_ERROR_USAGE,
 * with line and column where there are such. */
bool ovf_read(struct ovf *ovf, const char *data, size_t size, GError **error);

/* Whether a value of this row of the schema is the name of something on the host. */
bool ovf_names_host(const struct option *row, const char *text);

/* Whether each value of the definition that names something of the host is the path of one of the
 * `count` files. For those who do not believe who read it. */
bool ovf_check_paths(const struct definition *definition, char *const *paths, unsigned count,
                     GError **error);

/* ---- reading, for each other ---- */

/* An attribute in whatever namespace; NULL: there is none. The caller frees it. */
char *ovf_attribute(xmlNode *node, const char *name);
/* A number in an attribute or a text, times its unit; false for what is none. */
bool ovf_bytes(const char *number, const char *unit, uint64_t *bytes);
/* The name of the member that the reference means; NULL: there is none, or it is stored in a way
 * that cannot be read, which is lost. */
char *ovf_find_file(struct ovf *ovf, const char *id);
/* Make a disk of the package one of the machine: its path, or NULL when that is lost. It belongs to
 * `ovf`. */
const char *ovf_take_disk(struct ovf *ovf, const char *id);
/* A copy of a member, for the option `key`. */
const char *ovf_take_file(struct ovf *ovf, const char *id, const char *key);

void ovf_read_hardware(struct ovf *ovf, xmlNode *section);
void ovf_read_section(struct ovf *ovf, xmlNode *section);

/* ---- guests ---- */

/* The name of a guest in osinfo's database by what other hypervisors call it, such as
 * "debian12_64Guest", "Debian12_64"; NULL: no idea. The caller frees it. */
char *guest_find(const char *foreign);
/* The number that CIM has for it (CIM_OperatingSystem.OSType); `os` may be NULL. */
unsigned guest_cim(const char *os);

/* ---- writing ---- */

/* What is written of a machine's disk or other file. */
struct ovf_part {
    enum option_id option; /* DISK, KERNEL, INITRD, MODULE */
    unsigned index;        /* of the entry */
    char *href;
    uint64_t capacity; /* of a disk, bytes */
    uint64_t size;     /* of the file in the package, bytes */
};

/* The text of a descriptor for the machine called `name`. Each disk, kernel and so on has its part.
 * `lost`, unless it is NULL, gets a line for each thing that is not carried over, or only for
 * Anima. */
char *ovf_write(const struct definition *definition, const char *name, const struct ovf_part *parts,
                unsigned count, struct import *lost);
