// SPDX-License-Identifier: Apache-2.0
/*
 * What others do to guest memory while vCPUs execute: dirty pages are collected, devices write code
 * by DMA, ranges come and go. 64-bit guests, whose loops run at addresses of both halves.
 */
#include "tests/unit/engine_fixture.h"

#include "tests/unit/virtio_driver.h"

#include <linux/virtio_blk.h>

#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/device/virtio/virtio_rng.h"
#include "vmm/memory/dma.h"

#define TABLES    0x8000UL /* four pages */
#define HIGH_HALF 0xffff888000000000UL
#define CALLER    0x3000UL
#define FUNCTION  0x5003UL /* mov eax, imm32; ret: the number is aligned */
#define NUMBER    (FUNCTION + 1)
#define MAILBOX   0x6000UL /* what it returned last; how often that was less than before */
#define WRITTEN   0x60000UL
#define PAGES     32U
#define PATIENCE  (20 * G_TIME_SPAN_SECOND)
#define EXTRA     0x200000UL /* a range beside the RAM */
#define ALIAS     0x280000UL

/* Endless: the function by an indirect and a direct call; rsi is the mailbox. */
extern const uint8_t caller[], caller_end[];
asm(".pushsection .rodata\n"
    "caller:\n"
    "1: call *%rdi\n"
    "   call . + 0x5003 - 0x3000 - 2\n"
    "   cmpl (%rsi), %eax\n"
    "   jae 2f\n"
    "   lock incl 4(%rsi)\n"
    "2: movl %eax, (%rsi)\n"
    "   jmp 1b\n"
    "caller_end:\n"
    ".popsection\n");

/* Endless: rbx is the first page, r12 this vCPU's place in each; every kind of write in turn. */
extern const uint8_t writer[], writer_end[];
asm(".pushsection .rodata\n"
    "writer:\n"
    "   leaq (%rbx,%r12), %rdi\n"
    "   movl $32, %ebp\n"
    "1: incq (%rdi)\n"
    "   movl $1, %eax\n"
    "   lock xaddl %eax, 8(%rdi)\n"
    "   movd %ebp, %xmm0\n"
    "   paddd %xmm0, %xmm1\n"
    "   movups %xmm1, 16(%rdi)\n"
    "   movq %rdi, %rdx\n"
    "   leaq 32(%rdi), %rdi\n"
    "   movl $2, %ecx\n"
    "   rep stosq\n"
    "   movq %rsp, %r8\n"
    "   leaq 64(%rdx), %rsp\n"
    "   pushq %r9\n"
    "   popq 48(%rdx)\n"
    "   movq %r8, %rsp\n"
    "   incq %r9\n"
    "   leaq 4096(%rdx), %rdi\n"
    "   decl %ebp\n"
    "   jnz 1b\n"
    "   jmp writer\n"
    "writer_end:\n"
    ".popsection\n");

static void *run_thread(void *vcpu)
{
    return (void *)(uintptr_t)ops->vcpu_run(vcpu);
}

static void join_kicked(pthread_t thread, struct vcpu *vcpu)
{
    void *exit;

    ops->vcpu_kick(vcpu);
    pthread_join(thread, &exit);
    if ((enum vcpu_exit)(uintptr_t)exit == VCPU_EXIT_ERROR)
        fail_msg("%s", ops->vcpu_error(vcpu));
    assert_int_equal((uintptr_t)exit, VCPU_EXIT_KICKED);
}

/* The first 4 MB in both halves, for all rings. */
static void put_tables(void)
{
    const uint64_t upper = (TABLES + 0x1000) | 7, middle = (TABLES + 0x2000) | 7;
    const uint64_t large[] = {0x87, 0x200087};

    put(TABLES, &upper, 8);
    put(TABLES + (HIGH_HALF >> 39 & 511) * 8, &upper, 8);
    put(TABLES + 0x1000, &middle, 8);
    put(TABLES + 0x2000, large, sizeof(large));
}

/* A vCPU in 64-bit mode, ring 0 or 3, at `rip`; its registers are the caller's. */
static struct cpu_state long_state(unsigned index, bool user, uint64_t rip)
{
    struct cpu_state state;

    ops->vcpu_get_state(fixture.vcpus[index], &state);
    for (unsigned i = 0; i <= SEG_GS; i++)
        state.segments[i] = (struct cpu_segment){
            .selector = (uint16_t)((i == SEG_CS ? 8 : 16) | (user ? 3 : 0)),
            .attributes = (uint16_t)((i == SEG_CS ? 0x9b | SEGMENT_L : 0x93 | SEGMENT_DB) |
                                     SEGMENT_G | (user ? 0x60 : 0)),
            .limit = 0xffffffff};
    state.cr0 = 0x80010033;
    state.cr3 = TABLES;
    state.cr4 = 0x620;
    state.msrs.efer = 0x500;
    state.mp_state = CPU_RUNNABLE;
    state.lapic.id = index;
    state.rip = rip;
    state.gpr[GPR_RSP] = 0x7000 + 0x400 * (index + 1);
    return state;
}

static void set_state(unsigned index, const struct cpu_state *state)
{
    GError *error = NULL;

    if (!ops->vcpu_set_state(fixture.vcpus[index], state, &error))
        fail_msg("%s", error->message);
}

/* ---- dirty pages ---- */

/* Odd vCPUs write by addresses of the upper half, the latter two in ring 3. */
static void start_writers(pthread_t threads[CPUS])
{
    put_tables();
    put(CODE, writer, (size_t)(writer_end - writer));
    for (unsigned i = 0; i < fixture.count; i++) {
        uint64_t half = i % 2 ? HIGH_HALF : 0;
        struct cpu_state state = long_state(i, i >= 2, CODE + half);

        state.gpr[GPR_RBX] = WRITTEN + half;
        state.gpr[GPR_R12] = 64UL * i;
        set_state(i, &state);
    }
    for (unsigned i = 0; i < fixture.count; i++)
        pthread_create(&threads[i], NULL, run_thread, fixture.vcpus[i]);
}

/* A page that changed after one collection is dirty in it or in the next. */
static void each_write_after_a_collection_shows(void **state)
{
    static uint8_t before[PAGES][256], after[256];
    uint64_t bitmap[4], first = WRITTEN >> 12;
    gint64 end = g_get_monotonic_time() + 400000;
    uint32_t changed = 0, changes = 0;
    pthread_t threads[CPUS];

    start_writers(threads);
    memory_dirty_start(fixture.memory, MEMORY_CLIENT_MIGRATION);
    memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
    for (unsigned i = 0; i < PAGES; i++)
        assert_true(memory_read(fixture.memory, WRITTEN + i * 4096, before[i], sizeof(before[i])));
    while (changes <= PAGES || g_get_monotonic_time() < end) {
        if (g_get_monotonic_time() > end + PATIENCE)
            fail_msg("%u changes in all this time", changes);
        memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, first, PAGES, bitmap);
        uint32_t dirty = (uint32_t)bitmap[0];
        if (changed & ~dirty)
            fail_msg("pages %x were written and not dirty", changed & ~dirty);
        changed = 0;
        for (unsigned k = 0; k < PAGES; k++) {
            assert_true(memory_read(fixture.memory, WRITTEN + k * 4096, after, sizeof(after)));
            if (memcmp(before[k], after, sizeof(after)) == 0)
                continue;
            memcpy(before[k], after, sizeof(after));
            changes++;
            if (!(dirty >> k & 1))
                changed |= 1U << k;
        }
    }
    memory_dirty_stop(fixture.memory, MEMORY_CLIENT_MIGRATION);
    for (unsigned i = 0; i < fixture.count; i++)
        join_kicked(threads[i], fixture.vcpus[i]);
}

/* As a migration and a display that come and go: aliases of all memory are dropped each time. */
static void tracking_that_comes_and_goes_loses_nothing(void **state)
{
    uint64_t bitmap[4], before, after, page = WRITTEN;
    gint64 end = g_get_monotonic_time() + 300000;
    pthread_t threads[CPUS];

    start_writers(threads);
    for (unsigned i = 0; g_get_monotonic_time() < end; i++) {
        enum memory_client client = i % 3 ? MEMORY_CLIENT_DISPLAY : MEMORY_CLIENT_MIGRATION;

        page = WRITTEN + i % PAGES * 4096;
        memory_dirty_start(fixture.memory, client);
        assert_true(memory_read(fixture.memory, page, &before, 8));
        g_usleep(i % 4 * 300);
        assert_true(memory_read(fixture.memory, page, &after, 8));
        memory_dirty_collect(fixture.memory, client, page >> 12, 1, bitmap);
        memory_dirty_stop(fixture.memory, client);
        if (before != after)
            assert_int_equal(bitmap[0] & 1, 1);
    }
    for (unsigned i = 0; i < fixture.count; i++)
        join_kicked(threads[i], fixture.vcpus[i]);
}

/* ---- code that devices write ---- */

/* All vCPUs call the function, from both halves and rings, each with a mailbox of its own. */
static void start_callers(pthread_t threads[CPUS], uint64_t function)
{
    static const uint8_t text[] = {0xb8, 0, 0, 0, 0, 0xc3};

    put_tables();
    put(CALLER, caller, (size_t)(caller_end - caller));
    put(FUNCTION, text, sizeof(text));
    for (unsigned i = 0; i < fixture.count; i++) {
        uint64_t half = i % 2 ? HIGH_HALF : 0;
        struct cpu_state state = long_state(i, i >= 2, CALLER + half);

        state.gpr[GPR_RDI] = function + half;
        state.gpr[GPR_RSI] = MAILBOX + 64UL * i + half;
        set_state(i, &state);
    }
    for (unsigned i = 0; i < fixture.count; i++)
        pthread_create(&threads[i], NULL, run_thread, fixture.vcpus[i]);
}

static uint32_t mailbox(unsigned index, unsigned word)
{
    uint32_t value;

    assert_true(memory_read(fixture.memory, MAILBOX + 64UL * index + 4 * word, &value, 4));
    return value;
}

/* Every vCPU comes to run what returns `number`. */
static void await_number(uint32_t number)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    for (unsigned i = 0; i < fixture.count; i++)
        while (mailbox(i, 0) != number) {
            if (g_get_monotonic_time() > end)
                fail_msg("vCPU %u runs %u, not %u", i, mailbox(i, 0), number);
            g_usleep(20);
        }
}

/* No vCPU ran anything older than what it had run. */
static void join_callers(pthread_t threads[CPUS])
{
    for (unsigned i = 0; i < fixture.count; i++) {
        join_kicked(threads[i], fixture.vcpus[i]);
        assert_int_equal(mailbox(i, 1), 0);
    }
}

static void code_written_by_dma_is_what_runs(void **state)
{
    struct dma_space space = {fixture.memory, true};
    gint64 end = g_get_monotonic_time() + 300000;
    pthread_t threads[CPUS];

    start_callers(threads, FUNCTION);
    for (uint32_t number = 1; number < 20 || g_get_monotonic_time() < end; number++) {
        if (number % 3)
            assert_true(dma_write(&space, NUMBER, &number, sizeof(number)));
        else
            assert_true(memory_write(fixture.memory, NUMBER, &number, sizeof(number)));
        await_number(number);
    }
    join_callers(threads);
}

/* A device takes its time between the mapping and its end; the page is translated anew meanwhile.
 */
static void code_of_a_mapping_that_lasts_is_what_runs(void **state)
{
    struct dma_space space = {fixture.memory, true};
    struct dma_segment segment;
    pthread_t threads[CPUS];

    start_callers(threads, FUNCTION);
    for (uint32_t number = 1; number < 40; number++) {
        assert_int_equal(dma_map(&space, NUMBER, 4, DMA_FROM_DEVICE, &segment, 1), 1);
        g_usleep(number % 5 * 200);
        __atomic_store_n((uint32_t *)segment.host, number, __ATOMIC_SEQ_CST);
        g_usleep(number % 3 * 200);
        dma_unmap(&space, NUMBER, 4, DMA_FROM_DEVICE, 4);
        await_number(number);
    }
    join_callers(threads);
}

/* ---- the same by devices ---- */

#define HEADER (WRITTEN + 0x0000)
#define STATUS (WRITTEN + 0x0010)
#define SOURCE (WRITTEN + 0x1000)

static void await_used(struct driver *driver, uint16_t count)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    while (driver_used_count(driver, 0) != count) {
        assert_true(g_get_monotonic_time() < end);
        g_usleep(20);
    }
}

/* A request of one sector between the disk and `address`. */
static void move_sector(struct driver *driver, uint32_t type, uint64_t address)
{
    struct virtio_blk_outhdr header = {.type = type};
    uint16_t flags = VRING_DESC_F_NEXT | (type == VIRTIO_BLK_T_IN ? VRING_DESC_F_WRITE : 0);
    uint16_t count = (uint16_t)(driver_used_count(driver, 0) + 1);

    driver_poke(driver, HEADER, &header, sizeof(header));
    driver_descriptor(driver, DRIVER_DESCRIPTORS(0), 0, HEADER, sizeof(header), VRING_DESC_F_NEXT,
                      1);
    driver_descriptor(driver, DRIVER_DESCRIPTORS(0), 1, address, 512, flags, 2);
    driver_descriptor(driver, DRIVER_DESCRIPTORS(0), 2, STATUS, 1, VRING_DESC_F_WRITE, 0);
    driver_put(driver, 0, 0);
    driver_notify(driver, 0);
    await_used(driver, count);
}

static void code_read_from_a_disk_is_what_runs(void **state)
{
    struct bench *bench = bench_create();
    struct device *device = bench_device(bench, &virtio_blk_device);
    uint64_t sector = FUNCTION & ~511UL;
    pthread_t threads[CPUS];
    struct driver driver;
    uint8_t text[512];

    device_resume(device);
    driver_open(&driver, bench, device);
    driver_start(&driver, 0, 1);
    setup_engine(bench->env.memory, CPUS);
    start_callers(threads, FUNCTION);
    for (uint32_t number = 1; number < 30; number++) {
        assert_true(memory_read(fixture.memory, sector, text, sizeof(text)));
        memcpy(text + (NUMBER - sector), &number, sizeof(number));
        driver_poke(&driver, SOURCE, text, sizeof(text));
        move_sector(&driver, VIRTIO_BLK_T_OUT, SOURCE);
        move_sector(&driver, VIRTIO_BLK_T_IN, sector);
        await_number(number);
    }
    join_callers(threads);
    teardown_engine();
    device_destroy(device);
    bench_destroy(bench);
}

static void code_of_random_bytes_is_what_runs(void **state)
{
    struct bench *bench = bench_create();
    struct device *device = bench_device(bench, &virtio_rng_device);
    pthread_t threads[CPUS];
    struct driver driver;
    uint32_t number;

    driver_open(&driver, bench, device);
    driver_start(&driver, 0, 1);
    setup_engine(bench->env.memory, CPUS);
    start_callers(threads, FUNCTION);
    for (uint16_t round = 1; round < 30; round++) {
        bench_step(bench, NS_PER_SECOND); /* it keeps to a rate */
        driver_descriptor(&driver, DRIVER_DESCRIPTORS(0), 0, NUMBER, 4, VRING_DESC_F_WRITE, 0);
        driver_put(&driver, 0, 0);
        driver_notify(&driver, 0);
        await_used(&driver, round);
        assert_true(memory_read(fixture.memory, NUMBER, &number, sizeof(number)));
        await_number(number);
    }
    for (unsigned i = 0; i < fixture.count; i++)
        join_kicked(threads[i], fixture.vcpus[i]);
    teardown_engine();
    device_destroy(device);
    bench_destroy(bench);
}

/* ---- ranges ---- */

static int number_file(uint32_t number)
{
    const uint8_t text[] = {0xb8, 0, 0, 0, 0, 0xc3};
    int fd = memory_memfd("range", 0x10000, NULL);

    assert_int_equal(pwrite(fd, text, sizeof(text), 3), sizeof(text));
    assert_int_equal(pwrite(fd, &number, sizeof(number), 4), sizeof(number));
    return fd;
}

/* A file is shown at an address in the place of another, with the vCPUs parked. */
static void code_of_a_range_that_replaced_another_is_what_runs(void **state)
{
    pthread_t threads[CPUS];

    for (uint32_t number = 1; number < 12; number++) {
        int fd = number_file(number);

        if (number > 1)
            memory_remove(fixture.memory, EXTRA);
        assert_true(memory_add(fixture.memory, "extra", MEMORY_RAM, EXTRA, 0x10000, fd, 0, NULL));
        close(fd);
        /* Both calls go to it: the direct one by a jump in the RAM. */
        if (number > 1) {
            for (unsigned i = 0; i < fixture.count; i++)
                pthread_create(&threads[i], NULL, run_thread, fixture.vcpus[i]);
        } else {
            start_callers(threads, EXTRA + 3);
            const uint8_t jump[] = {0xe9, 0xfb, 0xaf, 0x1f, 0x00};
            assert_true(memory_write(fixture.memory, FUNCTION, jump, sizeof(jump)));
        }
        await_number(number);
        for (unsigned i = 0; i < fixture.count; i++)
            join_kicked(threads[i], fixture.vcpus[i]);
    }
}

/* The same page at two addresses: one is executed, the other written. */
static void code_written_by_another_address_is_what_runs(void **state)
{
    struct dma_space space = {fixture.memory, true};
    pthread_t threads[CPUS];
    int fd = number_file(0);

    assert_true(memory_add(fixture.memory, "one", MEMORY_RAM, EXTRA, 0x10000, fd, 0, NULL));
    assert_true(memory_add(fixture.memory, "two", MEMORY_RAM, ALIAS, 0x10000, fd, 0, NULL));
    close(fd);
    start_callers(threads, EXTRA + 3);
    const uint8_t jump[] = {0xe9, 0xfb, 0xaf, 0x1f, 0x00};
    assert_true(memory_write(fixture.memory, FUNCTION, jump, sizeof(jump)));
    for (uint32_t number = 1; number < 60; number++) {
        assert_true(dma_write(&space, (number % 2 ? ALIAS : EXTRA) + 4, &number, sizeof(number)));
        await_number(number);
    }
    join_callers(threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FOUR(each_write_after_a_collection_shows),
        TEST_FOUR(tracking_that_comes_and_goes_loses_nothing),
        TEST_FOUR(code_written_by_dma_is_what_runs),
        TEST_FOUR(code_of_a_mapping_that_lasts_is_what_runs),
        cmocka_unit_test(code_read_from_a_disk_is_what_runs),
        cmocka_unit_test(code_of_random_bytes_is_what_runs),
        TEST_FOUR(code_of_a_range_that_replaced_another_is_what_runs),
        TEST_FOUR(code_written_by_another_address_is_what_runs),
    };
    const char *why;

    /* A KVM that interprets does not know what the loops are made of. */
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm_fd >= 0 && strcmp(engine_find("auto", kvm_fd, &why, NULL)->name, "kvm") != 0) {
        close(kvm_fd);
        kvm_fd = -1;
    }
    int failures = run_on_engines(tests);
    if (kvm_fd >= 0)
        close(kvm_fd);
    return failures;
}
