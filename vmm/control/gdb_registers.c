// SPDX-License-Identifier: Apache-2.0
/*
 * One table of registers in the order of the wire; the description that GDB reads and every access
 * come from it. Features and names of the first three groups are GDB's own (appendix G.5.4).
 */
#include "vmm/control/gdb_registers.h"

#include "vmm/control/gdb_packet.h"

#include <stddef.h>
#include <string.h>

#define X87_REGISTERS   8
#define X87_TOP(status) ((status) >> 11 & 7)

enum feature {
    FEATURE_CORE,
    FEATURE_SSE,
    FEATURE_SEGMENTS,
    FEATURE_SYSTEM,
    FEATURES,
};

static const char *const feature_names[FEATURES] = {
    [FEATURE_CORE] = "org.gnu.gdb.i386.core",
    [FEATURE_SSE] = "org.gnu.gdb.i386.sse",
    [FEATURE_SEGMENTS] = "org.gnu.gdb.i386.segments",
    [FEATURE_SYSTEM] = "org.anima.system",
};

enum special {
    PLAIN,
    STACK, /* ST(n): the offset is that of R0, the register is found by TOP */
    TAGS,  /* the tag word in its full form */
};

struct gdb_register {
    const char *name, *type;
    uint8_t size;  /* on the wire */
    uint8_t field; /* in the state; what the wire has more is 0 */
    uint8_t feature, special, index;
    size_t offset;
};

#define REG(feature_, name_, type_, size_, member)                                   \
    {                                                                                \
        .name = (name_), .type = (type_), .size = (size_),                           \
        .field = MIN(sizeof(((struct cpu_state *)0)->member), (size_)),              \
        .feature = FEATURE_##feature_, .offset = offsetof(struct cpu_state, member), \
    }
#define GPR(name, index)      REG(CORE, name, "int64", 8, gpr[index])
#define SELECTOR(name, index) REG(CORE, name, "int32", 4, segments[index].selector)
#define ST(number)                                                         \
    {                                                                      \
        .name = "st" #number, .type = "i387_ext", .size = 10, .field = 10, \
        .feature = FEATURE_CORE, .special = STACK, .index = (number),      \
        .offset = offsetof(struct cpu_state, x87.registers),               \
    }
#define FPU(name, member) REG(CORE, name, "int", 4, x87.member)
#define XMM(number)       REG(SSE, "xmm" #number, "vec128", 16, vector[number])

static const struct gdb_register registers[] = {
    GPR("rax", GPR_RAX),
    GPR("rbx", GPR_RBX),
    GPR("rcx", GPR_RCX),
    GPR("rdx", GPR_RDX),
    GPR("rsi", GPR_RSI),
    GPR("rdi", GPR_RDI),
    REG(CORE, "rbp", "data_ptr", 8, gpr[GPR_RBP]),
    REG(CORE, "rsp", "data_ptr", 8, gpr[GPR_RSP]),
    GPR("r8", GPR_R8),
    GPR("r9", GPR_R9),
    GPR("r10", GPR_R10),
    GPR("r11", GPR_R11),
    GPR("r12", GPR_R12),
    GPR("r13", GPR_R13),
    GPR("r14", GPR_R14),
    GPR("r15", GPR_R15),
    REG(CORE, "rip", "code_ptr", 8, rip),
    REG(CORE, "eflags", "i386_eflags", 4, rflags),
    SELECTOR("cs", SEG_CS),
    SELECTOR("ss", SEG_SS),
    SELECTOR("ds", SEG_DS),
    SELECTOR("es", SEG_ES),
    SELECTOR("fs", SEG_FS),
    SELECTOR("gs", SEG_GS),
    ST(0),
    ST(1),
    ST(2),
    ST(3),
    ST(4),
    ST(5),
    ST(6),
    ST(7),
    FPU("fctrl", control),
    FPU("fstat", status),
    {
        .name = "ftag",
        .type = "int",
        .size = 4,
        .field = 2,
        .feature = FEATURE_CORE,
        .special = TAGS,
    },
    FPU("fiseg", instruction_selector),
    FPU("fioff", instruction_pointer),
    FPU("foseg", data_selector),
    FPU("fooff", data_pointer),
    FPU("fop", opcode),
    XMM(0),
    XMM(1),
    XMM(2),
    XMM(3),
    XMM(4),
    XMM(5),
    XMM(6),
    XMM(7),
    XMM(8),
    XMM(9),
    XMM(10),
    XMM(11),
    XMM(12),
    XMM(13),
    XMM(14),
    XMM(15),
    REG(SSE, "mxcsr", "i386_mxcsr", 4, mxcsr),
    REG(SEGMENTS, "fs_base", "int64", 8, segments[SEG_FS].base),
    REG(SEGMENTS, "gs_base", "int64", 8, segments[SEG_GS].base),
    REG(SYSTEM, "k_gs_base", "int64", 8, msrs.kernel_gs_base),
    REG(SYSTEM, "cr0", "int64", 8, cr0),
    REG(SYSTEM, "cr2", "int64", 8, cr2),
    REG(SYSTEM, "cr3", "int64", 8, cr3),
    REG(SYSTEM, "cr4", "int64", 8, cr4),
    REG(SYSTEM, "cr8", "int64", 8, cr8),
    REG(SYSTEM, "efer", "int64", 8, msrs.efer),
};

/* Types that GDB does not know by itself. */
static const char description_types[FEATURES][1024] = {
    [FEATURE_CORE] =
        "<flags id=\"i386_eflags\" size=\"4\">"
        "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
        "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
        "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
        "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
        "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
        "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
        "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
        "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>",
    [FEATURE_SSE] =
        "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
        "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
        "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
        "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
        "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
        "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
        "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
        "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/>"
        "<field name=\"uint128\" type=\"uint128\"/></union>"
        "<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/>"
        "<field name=\"DE\" start=\"1\" end=\"1\"/><field name=\"ZE\" start=\"2\" end=\"2\"/>"
        "<field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/>"
        "<field name=\"PE\" start=\"5\" end=\"5\"/></flags>",
};

unsigned gdb_register_count(void)
{
    return G_N_ELEMENTS(registers);
}

/* Two bits a register: 0 valid, 1 zero, 2 special, 3 empty (SDM 1, 8.1.7). */
static unsigned full_tag(const struct cpu_x87 *x87, unsigned physical)
{
    const uint8_t *value = x87->registers[physical];
    uint64_t significand;
    uint16_t exponent;

    if (!(x87->tag >> physical & 1))
        return 3;
    memcpy(&significand, value, sizeof(significand));
    memcpy(&exponent, value + sizeof(significand), sizeof(exponent));
    exponent &= 0x7fff;
    if (exponent == 0 && significand == 0)
        return 1;
    return exponent == 0 || exponent == 0x7fff || !(significand >> 63) ? 2 : 0;
}

static uint16_t tags_get(const struct cpu_x87 *x87)
{
    uint16_t tags = 0;

    for (unsigned i = 0; i < X87_REGISTERS; i++)
        tags |= (uint16_t)(full_tag(x87, i) << (2 * i));
    return tags;
}

static void tags_set(struct cpu_x87 *x87, uint16_t tags)
{
    x87->tag = 0;
    for (unsigned i = 0; i < X87_REGISTERS; i++)
        if ((tags >> (2 * i) & 3) != 3)
            x87->tag |= (uint8_t)(1U << i);
}

/* Where a register's bytes are; not for the tag word. */
static size_t register_offset(const struct gdb_register *reg, const struct cpu_state *state)
{
    unsigned physical = (X87_TOP(state->x87.status) + reg->index) % X87_REGISTERS;

    return reg->special == STACK ? reg->offset + physical * sizeof(state->x87.registers[0])
                                 : reg->offset;
}

bool gdb_register_append(GString *out, const struct cpu_state *state, unsigned number)
{
    const struct gdb_register *reg;
    uint8_t bytes[16] = {0};
    uint16_t tags;

    if (number >= G_N_ELEMENTS(registers))
        return false;
    reg = &registers[number];
    if (reg->special == TAGS) {
        tags = tags_get(&state->x87);
        memcpy(bytes, &tags, sizeof(tags));
    } else {
        memcpy(bytes, (const uint8_t *)state + register_offset(reg, state), reg->field);
    }
    gdb_hex_append(out, bytes, reg->size);
    return true;
}

bool gdb_register_take(const char **text, struct cpu_state *state, unsigned number)
{
    const struct gdb_register *reg;
    uint8_t bytes[16] = {0};
    uint16_t tags;

    if (number >= G_N_ELEMENTS(registers))
        return false;
    reg = &registers[number];
    if (!gdb_hex_take(text, bytes, reg->size))
        return false;
    if (reg->special == TAGS) {
        memcpy(&tags, bytes, sizeof(tags));
        tags_set(&state->x87, tags);
    } else {
        memcpy((uint8_t *)state + register_offset(reg, state), bytes, reg->field);
    }
    return true;
}

char *gdb_target_description(void)
{
    GString *out = g_string_new("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">"
                                "<target><architecture>i386:x86-64</architecture>");

    for (unsigned feature = 0; feature < FEATURES; feature++) {
        g_string_append_printf(out, "<feature name=\"%s\">%s", feature_names[feature],
                               description_types[feature]);
        for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++)
            if (registers[i].feature == feature)
                g_string_append_printf(
                    out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>",
                    registers[i].name, 8 * registers[i].size, registers[i].type, i);
        g_string_append(out, "</feature>");
    }
    g_string_append(out, "</target>");
    return g_string_free(out, FALSE);
}
