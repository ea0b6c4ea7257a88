// SPDX-License-Identifier: Apache-2.0
/*
 * Memory for translated code: what is written runs, nothing is writable and executable, and a
 * closed sandbox needs no new memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/engine/soft/translator/code_cache.h"
#include "vmm/monitor/sandbox.h"

#define SIZE (1UL << 20)

/* mov eax, 1234; ret */
static const uint8_t code[] = {0xb8, 0xd2, 0x04, 0, 0, 0xc3};

static int run(const struct code_cache *cache, size_t offset)
{
    union {
        const uint8_t *address;
        int (*function)(void);
    } entry = {.address = cache->write + offset + cache->execute};

    return entry.function();
}

static void what_is_written_runs(void **state)
{
    struct code_cache cache;

    assert_true(code_cache_init(&cache, SIZE, NULL));
    assert_int_equal(cache.size, SIZE);
    memcpy(cache.write, code, sizeof(code));
    memcpy(cache.write + SIZE - sizeof(code), code, sizeof(code));
    assert_int_equal(run(&cache, 0), 1234);
    assert_int_equal(run(&cache, SIZE - sizeof(code)), 1234);
    cache.write[1]++;
    assert_int_equal(run(&cache, 0), 1235);
    code_cache_fini(&cache);
    assert_null(cache.write);
    code_cache_fini(&cache);
}

/* Its permissions in /proc/self/maps: "rw-s". */
static void find_permissions(const void *address, char permissions[5])
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t from = 0, to = 0;
    char line[512], *end = line;

    assert_non_null(maps);
    while (!((uintptr_t)address >= from && (uintptr_t)address < to)) {
        assert_non_null(fgets(line, sizeof(line), maps));
        from = g_ascii_strtoull(line, &end, 16);
        to = g_ascii_strtoull(end + 1, &end, 16);
    }
    g_strlcpy(permissions, end + 1, 5);
    fclose(maps);
}

static void nothing_is_writable_and_executable(void **state)
{
    struct code_cache cache;
    char permissions[5];

    assert_true(code_cache_init(&cache, SIZE, NULL));
    find_permissions(cache.write, permissions);
    assert_string_equal(permissions, "rw-s");
    find_permissions(cache.write + cache.execute, permissions);
    assert_string_equal(permissions, "r-xs");
    code_cache_fini(&cache);
}

static unsigned resident(const struct code_cache *cache)
{
    static unsigned char pages[SIZE / 4096];
    unsigned count = 0;

    assert_int_equal(mincore(cache->write, SIZE, pages), 0);
    for (unsigned i = 0; i < SIZE / 4096; i++)
        count += pages[i] & 1;
    return count;
}

static void an_empty_cache_takes_no_memory(void **state)
{
    struct code_cache cache;

    assert_true(code_cache_init(&cache, SIZE, NULL));
    assert_int_equal(resident(&cache), 0);
    memset(cache.write, 0xc3, SIZE);
    assert_int_equal(resident(&cache), SIZE / 4096);
    code_cache_empty(&cache);
    assert_int_equal(resident(&cache), 0);
    assert_int_equal(cache.write[SIZE / 2], 0);
    assert_int_equal(cache.write[SIZE / 2 + cache.execute], 0);
    memcpy(cache.write, code, sizeof(code));
    assert_int_equal(run(&cache, 0), 1234);
    code_cache_fini(&cache);
}

static void a_cache_comes_back_empty(void **state)
{
    struct code_cache first, second;

    assert_true(code_cache_init(&first, SIZE, NULL));
    first.write[0] = 1;
    uint8_t *at = first.write;
    code_cache_fini(&first);
    assert_true(code_cache_init(&second, SIZE, NULL));
    assert_ptr_equal(second.write, at);
    assert_int_equal(second.write[0], 0);
    code_cache_fini(&second);
}

static void all_caches_together_are_bounded(void **state)
{
    for (unsigned cpus = 1; cpus <= 255; cpus++) {
        size_t share = code_cache_share(cpus);

        assert_in_range(share, 1UL << 20, 128UL << 20);
        assert_int_equal(share % 4096, 0);
        assert_true(share * cpus <= 1UL << 30);
    }
    assert_int_equal(code_cache_share(1), 128UL << 20);
}

/* In the child: 0 when `caches` of two vCPUs work in a sandbox, and a third is refused politely. */
static int use_in_sandbox(void)
{
    struct code_cache caches[3];
    struct sandbox_report report;

    code_cache_prepare(2);
    if (!sandbox_enter(SANDBOX_VMM, false, &report, NULL))
        return 2;
    for (unsigned i = 0; i < 2; i++) {
        if (!code_cache_init(&caches[i], code_cache_share(2), NULL))
            return 3;
        memcpy(caches[i].write, code, sizeof(code));
        if (run(&caches[i], 0) != 1234)
            return 4;
        code_cache_empty(&caches[i]);
    }
    if (code_cache_init(&caches[2], code_cache_share(2), NULL))
        return 5;
    code_cache_fini(&caches[0]);
    return code_cache_init(&caches[0], code_cache_share(2), NULL) ? 0 : 6;
}

static void caches_made_ahead_serve_in_a_sandbox(void **state)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(use_in_sandbox());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_runs),
        cmocka_unit_test(nothing_is_writable_and_executable),
        cmocka_unit_test(an_empty_cache_takes_no_memory),
        cmocka_unit_test(a_cache_comes_back_empty),
        cmocka_unit_test(all_caches_together_are_bounded),
        cmocka_unit_test(caches_made_ahead_serve_in_a_sandbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
