// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions in runs, upwards and downwards, against a model that does one element after
 * the other: random places, sizes, lengths, overlaps and page ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/soft_machine.h"

#define AREA       0x4000U /* bytes from TEST_DATA on that operands lie in */
#define REPETITION 400

static struct soft_machine machine;

#define CPU  (machine.cpu)
#define R(n) (machine.cpu->gpr[GPR_##n])

static int setup(void **state)
{
    soft_machine_init(&machine);
    return 0;
}

static int teardown(void **state)
{
    soft_machine_finish(&machine);
    return 0;
}

static int reset(void **state)
{
    soft_machine_reset(&machine, 8);
    return 0;
}

static uint32_t seed = 1;

static uint32_t random_below(uint32_t bound)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % bound;
}

/* Registers and memory as the instruction shall leave them. */
struct model {
    uint64_t rax, rcx, rsi, rdi;
    bool equal; /* of the last comparison */
    uint8_t memory[AREA];
};

static uint64_t element(const struct model *model, uint64_t address, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, model->memory + (address - TEST_DATA), size);
    return value;
}

static uint64_t merged(uint64_t old, uint64_t value, unsigned size)
{
    if (size == 4)
        return (uint32_t)value;
    memcpy(&old, &value, size);
    return old;
}

/* `opcode` of the byte form; `stop` is the outcome of a comparison that ends the repetition. */
static void model_run(struct model *model, uint8_t opcode, unsigned size, int64_t step, bool stop)
{
    uint64_t mask = size == 8 ? UINT64_MAX : (1UL << size * 8) - 1;

    while (model->rcx) {
        bool source = opcode == 0xa4 || opcode == 0xa6 || opcode == 0xac, compares = false;

        switch (opcode) {
        case 0xa4:
            memmove(model->memory + (model->rdi - TEST_DATA),
                    model->memory + (model->rsi - TEST_DATA), size);
            break;
        case 0xaa:
            memcpy(model->memory + (model->rdi - TEST_DATA), &model->rax, size);
            break;
        case 0xac:
            model->rax = merged(model->rax, element(model, model->rsi, size), size);
            break;
        case 0xa6:
            compares = true;
            model->equal = element(model, model->rsi, size) == element(model, model->rdi, size);
            break;
        default:
            compares = true;
            model->equal = (model->rax & mask) == element(model, model->rdi, size);
            break;
        }
        model->rsi += source ? step : 0;
        model->rdi += opcode == 0xac ? 0 : step;
        model->rcx--;
        if (compares && model->equal == stop)
            break;
    }
}

/* A start of `count` elements that lie within the area, whichever way they go. */
static uint64_t random_start(unsigned count, unsigned size, bool down)
{
    uint64_t start = TEST_DATA + random_below(AREA - count * size);

    return down ? start + (count - 1) * size : start;
}

/* A few different bytes, so that comparisons run for a while. */
static void fill(void)
{
    for (unsigned i = 0; i < AREA; i++)
        machine.ram[TEST_DATA + i] = random_below(200) ? 0x11 : (uint8_t)random_below(256);
}

static void run_both(uint8_t opcode, unsigned size, bool down, bool repne)
{
    static struct model model;
    uint8_t code[4] = {repne ? 0xf2 : 0xf3, 0x90, 0x90, 0x90};
    unsigned count = 1 + random_below(AREA / 2 / size), at = 1;

    fill();
    R(RCX) = count;
    R(RAX) = 0x1111111111111111;
    R(RSI) = random_start(count, size, down);
    R(RDI) = random_below(4) ? random_start(count, size, down) : R(RSI);
    memcpy(model.memory, machine.ram + TEST_DATA, AREA);
    model.rax = R(RAX);
    model.rcx = R(RCX);
    model.rsi = R(RSI);
    model.rdi = R(RDI);
    model_run(&model, opcode, size, down ? -(int64_t)size : size, repne);

    CPU->rflags = FLAG_FIXED | (down ? FLAG_DF : 0);
    CPU->next_rip = TEST_CODE;
    if (size == 2) {
        code[0] = 0x66;
        code[1] = repne ? 0xf2 : 0xf3;
        at = 2;
    } else if (size == 8) {
        code[1] = 0x48;
        at = 2;
    }
    code[at] = size == 1 ? opcode : opcode + 1;
    soft_machine_run(&machine, code, at + 1);
    assert_int_equal(machine.fault, -1);
    assert_int_equal(R(RCX), model.rcx);
    assert_int_equal(R(RSI), model.rsi);
    assert_int_equal(R(RDI), model.rdi);
    assert_int_equal(R(RAX), model.rax);
    assert_memory_equal(machine.ram + TEST_DATA, model.memory, AREA);
    if (opcode == 0xa6 || opcode == 0xae)
        assert_int_equal(!!(CPU->rflags & FLAG_ZF), model.equal);
    assert_int_equal(!!(CPU->rflags & FLAG_DF), down);
}

static void run_all(uint8_t opcode, bool compares)
{
    for (unsigned i = 0; i < REPETITION; i++)
        run_both(opcode, 1U << random_below(4), random_below(2), compares && random_below(2));
}

static void moves_do_as_element_by_element(void **state)
{
    run_all(0xa4, false);
}

static void stores_do_as_element_by_element(void **state)
{
    run_all(0xaa, false);
}

static void loads_do_as_element_by_element(void **state)
{
    run_all(0xac, false);
}

static void comparisons_do_as_element_by_element(void **state)
{
    run_all(0xa6, true);
}

static void scans_do_as_element_by_element(void **state)
{
    run_all(0xae, true);
}

/* A segment's limit above and the address's end below stop the run where the element faults. */
static void a_run_down_ends_where_the_address_wraps(void **state)
{
    static const uint8_t code[] = {0xf3, 0xaa}; /* rep stosb */

    soft_machine_reset(&machine, 4);
    CPU->rflags |= FLAG_DF;
    CPU->seg[SEG_ES].base = TEST_DATA;
    CPU->seg[SEG_ES].limit = 0x3fff;
    R(RDI) = 0x1800;
    R(RAX) = 0x77;
    R(RCX) = 0x2000;
    soft_machine_run(&machine, code, sizeof(code));
    assert_int_equal(machine.fault, EXC_GP);
    assert_int_equal(R(RCX), 0x2000 - 0x1801);
    assert_int_equal((uint32_t)R(RDI), UINT32_MAX);
    assert_int_equal(machine.ram[TEST_DATA], 0x77);
    assert_int_equal(machine.ram[TEST_DATA + 0x1800], 0x77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(moves_do_as_element_by_element, reset),
        cmocka_unit_test_setup(stores_do_as_element_by_element, reset),
        cmocka_unit_test_setup(loads_do_as_element_by_element, reset),
        cmocka_unit_test_setup(comparisons_do_as_element_by_element, reset),
        cmocka_unit_test_setup(scans_do_as_element_by_element, reset),
        cmocka_unit_test_setup(a_run_down_ends_where_the_address_wraps, reset),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
