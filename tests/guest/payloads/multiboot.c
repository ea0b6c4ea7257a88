// SPDX-License-Identifier: Apache-2.0
/*
 * What a Multiboot 1 loader tells its kernel (GNU Multiboot Specification 0.6.96, 3.3): "NAME
 * ARGS", the memory, and two modules, each with its bytes at a page boundary and its own "NAME
 * ARGS".
 *
 * run-multiboot starts it with 64 MB, the arguments "first second" and the modules one ("module
 * one\n", arguments "alpha beta") and two (12345 bytes, byte i is i modulo 251, no arguments).
 */
#include "payload.h"

#define PAGE_SIZE 4096U
#define KIB       1024UL
#define MIB       (KIB * KIB)
#define MEMORY    (64 * MIB)
#define TWO_BYTES 12345U
#define AVAILABLE 1U
#define MODULES   2U
#define FLAGS     (1U << 0 | 1U << 2 | 1U << 3 | 1U << 6 | 1U << 9)

struct info {
    uint32_t flags, memory_lower, memory_upper, boot_device, cmdline;
    uint32_t module_count, modules, symbols[4];
    uint32_t map_length, map, drives_length, drives, config_table, loader_name, apm_table;
};

struct module {
    uint32_t start, end, string, reserved;
};

struct map_entry {
    uint32_t size; /* of what follows */
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

static const void *at(uint32_t address)
{
    return (const void *)(uint64_t)address;
}

/* Whether the string is `expected`, but for folders before the name. */
static bool is_string(uint32_t address, const char *expected)
{
    const char *name = at(address);

    for (const char *c = name; *c && *c != ' '; c++)
        if (*c == '/')
            name = c + 1;
    return strcmp(name, expected) == 0;
}

static void check_memory(const struct info *info)
{
    uint64_t available = 0, last = 0;

    check(info->memory_lower >= 512 && info->memory_lower <= 640, "lower memory is %u KiB",
          info->memory_lower);
    check(info->memory_upper == (MEMORY - MIB) / KIB, "upper memory is %u KiB", info->memory_upper);
    for (uint32_t offset = 0; offset < info->map_length;) {
        const struct map_entry *entry = at(info->map + offset);

        check(entry->size >= 20, "a map entry's size is %u", entry->size);
        if (entry->size < 20)
            return;
        check(entry->base >= last, "map entry at offset %u begins before the last one ends",
              offset);
        last = entry->base + entry->length;
        if (entry->type == AVAILABLE)
            available += entry->length;
        offset += entry->size + (uint32_t)sizeof(entry->size);
    }
    check(available > MEMORY - MIB && available <= MEMORY, "%u KiB are available",
          (unsigned)(available / KIB));
}

static void check_module_two(const struct module *module)
{
    const uint8_t *bytes = at(module->start);
    unsigned wrong = 0;

    check(module->end - module->start == TWO_BYTES, "module two has %u bytes",
          module->end - module->start);
    for (unsigned i = 0; i < TWO_BYTES; i++)
        wrong += bytes[i] != i % 251;
    check(!wrong, "module two has %u wrong bytes", wrong);
    check(is_string(module->string, "two"), "module two's string is '%s'",
          (const char *)at(module->string));
}

static void check_modules(const struct info *info)
{
    static const char one[] = "module one\n";
    const struct module *modules = at(info->modules);

    check(info->module_count == MODULES, "there are %u modules", info->module_count);
    if (info->module_count != MODULES)
        return;
    for (unsigned i = 0; i < MODULES; i++) {
        check(modules[i].start % PAGE_SIZE == 0, "module %u is at 0x%x", i, modules[i].start);
        check(modules[i].start >= (uint64_t)end_of_image && modules[i].end <= MEMORY,
              "module %u lies at 0x%x", i, modules[i].start);
    }
    check(modules[0].end <= modules[1].start, "module one ends at 0x%x", modules[0].end);
    check(modules[0].end - modules[0].start == sizeof(one) - 1, "module one has %u bytes",
          modules[0].end - modules[0].start);
    check(memcmp(at(modules[0].start), one, sizeof(one) - 1) == 0, "module one's bytes");
    check(is_string(modules[0].string, "one alpha beta"), "module one's string is '%s'",
          (const char *)at(modules[0].string));
    check_module_two(&modules[1]);
}

void payload_main(const char *cmdline)
{
    const struct info *info = multiboot_info;

    check((info->flags & FLAGS) == FLAGS, "the flags are 0x%x", info->flags);
    check(is_string(info->cmdline, "payload-multiboot first second"), "the command line is '%s'",
          (const char *)at(info->cmdline));
    check(strcmp(cmdline, "first second") == 0, "the arguments are '%s'", cmdline);
    check(*(const char *)at(info->loader_name), "the loader has no name");
    check_memory(info);
    check_modules(info);
    finish();
}
