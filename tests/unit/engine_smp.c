// SPDX-License-Identifier: Apache-2.0
/* Two and four vCPUs on threads of their own: start, locked accesses, dirty tracking,
 * cross-modified code. */
#include "tests/unit/engine_fixture.h"

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

static void a_second_processor_starts_by_init_and_sipi(void **state)
{
    /* At 3000h: mov byte [800h], 5ah; hlt */
    static const uint8_t second[] = {0xc6, 0x06, 0x00, 0x08, 0x5a, HLT};
    pthread_t thread;

    put(0x3000, second, sizeof(second));
    /* svr = 1ffh; icr: all but self, INIT, then SIPI 3; wait for the mark; kick */
    FLAT(0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0,
         0xfe, 0x00, 0x45, 0x0c, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x03, 0x46, 0x0c, 0x00,
         0x80, 0x3d, 0x00, 0x08, 0x00, 0x00, 0x5a, 0x75, 0xf7, OUT_KICK, HLT);
    pthread_create(&thread, NULL, run_thread, fixture.second);
    run_until_kicked();
    join_kicked(thread, fixture.second);
    struct cpu_state after;
    ops->vcpu_get_state(fixture.second, &after);
    assert_int_equal(after.segments[SEG_CS].selector, 0x300);
}

/* It is sent while the second vCPU is parked. */
static void a_sipi_that_waits_is_part_of_the_state(void **state)
{
    struct cpu_state second;

    FLAT(0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0,
         0xfe, 0x00, 0x45, 0x0c, 0x00, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x03, 0x46, 0x0c, 0x00,
         OUT_KICK, HLT);
    run_until_kicked();
    ops->vcpu_get_state(fixture.second, &second);
    assert_true(ops->vcpu_set_state(fixture.second, &second, NULL));
    ops->vcpu_get_state(fixture.second, &second);
    assert_int_equal(second.mp_state, CPU_RUNNABLE);
    assert_int_equal(second.segments[SEG_CS].selector, 0x300);
}

static uint64_t counter_of(struct vcpu *vcpu)
{
    struct cpu_state state;

    ops->vcpu_get_state(vcpu, &state);
    return state.tsc;
}

/* Over pauses, and a state that is read and set again. */
static void the_counters_of_two_processors_agree(void **state)
{
    struct cpu_state second;

    clock_pause(fixture.clock);
    ops->vcpu_get_state(fixture.second, &second);
    second.tsc = counter_of(fixture.vcpu);
    assert_true(ops->vcpu_set_state(fixture.second, &second, NULL));
    if (counter_of(fixture.vcpu) > 100000 * clock_tsc_khz(fixture.clock)) {
        print_message("SKIP: this KVM cannot give a guest another counter than the host's\n");
        skip();
    }
    clock_resume(fixture.clock);
    for (unsigned round = 0; round < 3; round++) {
        clock_pause(fixture.clock);
        usleep(3000);
        assert_int_equal(counter_of(fixture.vcpu), counter_of(fixture.second));
        ops->vcpu_get_state(fixture.second, &second);
        usleep(3000);
        assert_true(ops->vcpu_set_state(fixture.second, &second, NULL));
        assert_int_equal(counter_of(fixture.vcpu), counter_of(fixture.second));
        REAL(OUT_KICK);
        clock_resume(fixture.clock);
        run_until_kicked();
    }
}

/* Another vCPU in the mode of the first, at `rip`. */
static void set_other(unsigned index, uint64_t rip)
{
    struct cpu_state other = get();

    other.lapic.id = index;
    other.lapic.base_msr &= ~(1UL << 8);
    other.rip = rip;
    assert_true(ops->vcpu_set_state(fixture.vcpus[index], &other, NULL));
}

/* Both vCPUs write all the time: a page that changed between two collections is dirty in the
 * second. */
static void no_write_is_lost_to_a_collector(void **state)
{
    /* again: lock inc dword [5000h]; jmp again */
    static const uint8_t code[] = {0xf0, 0xff, 0x05, 0x00, 0x50, 0x00, 0x00, 0xeb, 0xf7};
    uint64_t bitmap[4];
    uint32_t before, after;
    pthread_t threads[2];
    unsigned changes = 0;

    load_flat(code, sizeof(code));
    set_other(1, CODE);
    pthread_create(&threads[0], NULL, run_thread, fixture.vcpu);
    pthread_create(&threads[1], NULL, run_thread, fixture.second);
    memory_dirty_start(fixture.memory, MEMORY_CLIENT_MIGRATION);
    /* Until enough was seen: a busy host may give these threads no time for long. */
    for (int i = 0; i < 300 || (changes <= 10 && i < 100000); i++) {
        memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
        assert_true(memory_read(fixture.memory, 0x5000, &before, sizeof(before)));
        usleep(100);
        assert_true(memory_read(fixture.memory, 0x5000, &after, sizeof(after)));
        memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
        if (before != after && !(bitmap[0] >> 5 & 1))
            fail_msg("%u became %u in a clean page", before, after);
        changes += before != after;
    }
    memory_dirty_stop(fixture.memory, MEMORY_CLIENT_MIGRATION);
    join_kicked(threads[0], fixture.vcpu);
    join_kicked(threads[1], fixture.second);
    assert_true(changes > 10);
}

/* One vCPU rewrites the instruction that the other executes: both sides' translations are dropped
 * all the time, and neither waits for the other for ever. */
static void code_that_another_processor_writes_is_seen(void **state)
{
    /* At 3000h: again: mov eax, imm (written by the other); mov [800h], eax; cpuid; jmp again */
    static const uint8_t reader[] = {0xb8, 0x00, 0x00, 0x00, 0x00, 0xa3, 0x00, 0x08,
                                     0x00, 0x00, 0x31, 0xc0, 0x0f, 0xa2, 0xeb, 0xf0};
    pthread_t thread;

    put(0x3000, reader, sizeof(reader));
    /* mov ecx, 200; again: mov [3001h], ecx; wait: cmp [800h], ecx; jne wait; dec ecx; jnz again;
     * kick */
    FLAT(0xb9, 200, 0, 0, 0, 0x89, 0x0d, 0x01, 0x30, 0x00, 0x00, 0x39, 0x0d, 0x00, 0x08, 0x00, 0x00,
         0x75, 0xf8, 0x49, 0x75, 0xef, OUT_KICK, HLT);
    set_other(1, 0x3000);
    pthread_create(&thread, NULL, run_thread, fixture.second);
    run_until_kicked();
    join_kicked(thread, fixture.second);
    assert_int_equal(get().gpr[GPR_RCX] & 0xffffffff, 0);
}

#define ROUNDS 5000U

/* All vCPUs run `code`, which ends with a byte written to PORT_ENDED, then HLT. */
static void run_all(const uint8_t *code, size_t size)
{
    pthread_t threads[CPUS];

    load_flat(code, size);
    for (unsigned i = 1; i < fixture.count; i++)
        set_other(i, CODE);
    atomic_store(&fixture.ended, 0);
    for (unsigned i = 0; i < fixture.count; i++)
        pthread_create(&threads[i], NULL, run_thread, fixture.vcpus[i]);
    for (int i = 0; atomic_load(&fixture.ended) < fixture.count; i++) {
        if (i == 100000)
            fail_msg("%u of %u processors came to their end", atomic_load(&fixture.ended),
                     fixture.count);
        usleep(100);
    }
    for (unsigned i = 0; i < fixture.count; i++)
        join_kicked(threads[i], fixture.vcpus[i]);
}

/* Within a line, across lines (a split lock of the host's), across pages (no host address). */
static const uint32_t counters[] = {0x5000, 0x503e, 0x5ffd};

/* KVM may emulate an access across pages, and does it in two parts then. */
static unsigned counters_used(void)
{
    return strcmp(ops->name, "kvm") == 0 ? 2 : 3;
}

static void locked_additions_of_all_processors_count(void **state)
{
    for (unsigned i = 0; i < counters_used(); i++) {
        const uint8_t low = (uint8_t)counters[i], high = (uint8_t)(counters[i] >> 8);
        /* mov ecx, ROUNDS; again: lock inc dword [c]; mov eax, 1; lock xadd [c], eax;
         * lock sub dword [c], -1; dec ecx; jnz again; out PORT_ENDED, al; hlt */
        const uint8_t code[] = {
            0xb9, ROUNDS & 0xff, ROUNDS >> 8, 0x00, 0x00, 0xf0, 0xff, 0x05,       low,  high,
            0x00, 0x00,          0xb8,        0x01, 0x00, 0x00, 0x00, 0xf0,       0x0f, 0xc1,
            0x05, low,           high,        0x00, 0x00, 0xf0, 0x83, 0x2d,       low,  high,
            0x00, 0x00,          0xff,        0x49, 0x75, 0xe1, 0xe6, PORT_ENDED, HLT};
        uint32_t sum = 0;

        put(counters[i], &sum, sizeof(sum));
        run_all(code, sizeof(code));
        assert_true(memory_read(fixture.memory, counters[i], &sum, sizeof(sum)));
        assert_int_equal(sum, fixture.count * 3 * ROUNDS);
    }
}

/* A lock taken by CMPXCHG and given back by XCHG keeps plain additions apart. */
static void a_lock_excludes_all_other_processors(void **state)
{
    for (unsigned i = 0; i < counters_used(); i++) {
        const uint8_t low = (uint8_t)counters[i], high = (uint8_t)(counters[i] >> 8);
        /* mov ecx, ROUNDS; mov edx, 1; again: xor eax, eax; lock cmpxchg [c], edx; jnz again;
         * inc dword [7000h]; xor eax, eax; xchg [c], eax; dec ecx; jnz again;
         * out PORT_ENDED, al; hlt */
        const uint8_t code[] = {
            0xb9, ROUNDS & 0xff, ROUNDS >> 8, 0x00, 0x00, 0xba, 0x01, 0x00,       0x00, 0x00, 0x31,
            0xc0, 0xf0,          0x0f,        0xb1, 0x15, low,  high, 0x00,       0x00, 0x75, 0xf4,
            0xff, 0x05,          0x00,        0x70, 0x00, 0x00, 0x31, 0xc0,       0x87, 0x05, low,
            high, 0x00,          0x00,        0x49, 0x75, 0xe3, 0xe6, PORT_ENDED, HLT};
        uint32_t zero = 0, count;

        put(counters[i], &zero, sizeof(zero));
        put(0x7000, &zero, sizeof(zero));
        run_all(code, sizeof(code));
        assert_true(memory_read(fixture.memory, 0x7000, &count, sizeof(count)));
        assert_int_equal(count, fixture.count * ROUNDS);
    }
}

/* A register whose device has aliases dropped: who waits for the other's locked access to it must
 * give up its own. */
static void a_wait_for_anothers_locked_access_holds_no_alias(void **state)
{
    /* mov ecx, 500; again: lock inc dword [5000h]; lock inc dword [MMIO_COLLECT]; dec ecx;
     * jnz again; out PORT_ENDED, al; hlt */
    static const uint8_t code[] = {0xb9, 0xf4, 0x01, 0x00, 0x00, 0xf0,       0xff, 0x05, 0x00,
                                   0x50, 0x00, 0x00, 0xf0, 0xff, 0x05,       0x00, 0x01, 0x00,
                                   0xd0, 0x49, 0x75, 0xef, 0xe6, PORT_ENDED, HLT};

    memory_dirty_start(fixture.memory, MEMORY_CLIENT_DISPLAY);
    run_all(code, sizeof(code));
    memory_dirty_stop(fixture.memory, MEMORY_CLIENT_DISPLAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_TWO(a_second_processor_starts_by_init_and_sipi),
        TEST_TWO(a_sipi_that_waits_is_part_of_the_state),
        TEST_TWO(the_counters_of_two_processors_agree),
        TEST_TWO(no_write_is_lost_to_a_collector),
        TEST_TWO(code_that_another_processor_writes_is_seen),
        TEST_FOUR(locked_additions_of_all_processors_count),
        TEST_FOUR(a_lock_excludes_all_other_processors),
        TEST_FOUR(a_wait_for_anothers_locked_access_holds_no_alias),
    };

    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int failures = run_on_engines(tests);
    if (kvm_fd >= 0)
        close(kvm_fd);
    return failures;
}
