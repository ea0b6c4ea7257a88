// SPDX-License-Identifier: Apache-2.0
/*
 * For the tests of kernel loaders: memory, files made of bytes, and what must come of booting them.
 */
#pragma once

#include "vmm/machine/boot/boot.h"

#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB 0x100000UL

struct fixture {
    struct memory *memory;
    struct boot_image image;
    struct boot_file modules[3];
    struct cpu_state cpu;
};

static inline void add_ram(struct memory *memory, uint64_t size)
{
    uint64_t low = MIN(size, PC_LOW_RAM_END);
    int fd = memory_memfd("ram", size, NULL);

    assert_true(memory_add(memory, "low", MEMORY_RAM, 0, low, fd, 0, NULL));
    if (size > low)
        assert_true(
            memory_add(memory, "high", MEMORY_RAM, PC_HIGH_RAM_BASE, size - low, fd, low, NULL));
    close(fd);
}

static inline int setup(void **state)
{
    struct fixture *fixture = g_new0(struct fixture, 1);

    fixture->memory = memory_create();
    fixture->image.memory = fixture->memory;
    fixture->image.kernel = (struct boot_file){.fd = -1, .name = "kernel"};
    fixture->image.modules = fixture->modules;
    for (unsigned i = 0; i < G_N_ELEMENTS(fixture->modules); i++)
        fixture->modules[i].fd = -1;
    *state = fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;

    memory_destroy(fixture->memory);
    if (fixture->image.kernel.fd >= 0)
        close(fixture->image.kernel.fd);
    for (unsigned i = 0; i < fixture->image.module_count; i++)
        close(fixture->modules[i].fd);
    g_free(fixture);
    return 0;
}

static inline int file_of(const void *data, size_t size)
{
    int fd = memfd_create("file", MFD_CLOEXEC);

    assert_int_equal(write(fd, data, size), size);
    return fd;
}

static inline void set_kernel(struct fixture *fixture, const void *data, size_t size)
{
    if (fixture->image.kernel.fd >= 0)
        close(fixture->image.kernel.fd);
    fixture->image.kernel.fd = file_of(data, size);
}

static inline void add_module(struct fixture *fixture, const char *name, const char *arguments,
                              const char *data, size_t size)
{
    fixture->modules[fixture->image.module_count++] =
        (struct boot_file){.fd = file_of(data, size), .name = name, .arguments = arguments};
}

static inline void assert_boots(struct fixture *fixture)
{
    g_autoptr(GError) error = NULL;

    if (!boot_load(&fixture->image, &fixture->cpu, &error))
        fail_msg("%s", error->message);
}

static inline void assert_refused(struct fixture *fixture, const char *part)
{
    g_autoptr(GError) error = NULL;
    struct cpu_state untouched = {.rip = 0xfff0};

    fixture->cpu = untouched;
    assert_false(boot_load(&fixture->image, &fixture->cpu, &error));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
    assert_null(strchr(error->message, '\n'));
    assert_int_equal(fixture->cpu.rip, 0xfff0);
}

static inline uint64_t peek(struct fixture *fixture, uint64_t gpa, unsigned size)
{
    uint64_t value = 0;

    assert_true(memory_read(fixture->memory, gpa, &value, size));
    return value;
}

static inline void assert_text(struct fixture *fixture, uint64_t gpa, const char *text)
{
    char buffer[64] = {0};

    assert_in_range(strlen(text), 0, sizeof(buffer) - 1);
    assert_true(memory_read(fixture->memory, gpa, buffer, strlen(text) + 1));
    assert_string_equal(buffer, text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
