// SPDX-License-Identifier: Apache-2.0
/*
 * The allow-list of copy.h: what each instruction is. Within the files of copying.
 */
#pragma once

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

/* What an instruction does to the status flags (SDM 1, appendix A). Copied instructions are of one
 * class each; some classes look at the operands. */
enum copy_class {
    COPY_NO_FLAGS,
    COPY_ARITHMETIC,    /* all six */
    COPY_WITH_CARRY,    /* the same, and CF goes in */
    COPY_LOGIC,         /* all, AF undefined */
    COPY_STEP,          /* all but CF */
    COPY_SHIFT,         /* by how much? */
    COPY_SHIFT_DOUBLE,  /* the same with two registers */
    COPY_ROTATE,        /* CF and OF, by how much? */
    COPY_ROTATE_CARRY,  /* the same, and CF goes in */
    COPY_MULTIPLY,      /* CF and OF, others undefined */
    COPY_DIVIDE,        /* all undefined */
    COPY_BIT,           /* CF; ZF stays or is undefined */
    COPY_SCAN,          /* ZF, others undefined */
    COPY_COUNT,         /* CF and ZF, others undefined */
    COPY_ZERO,          /* ZF, others stay */
    COPY_CARRY,         /* CF */
    COPY_FLIP_CARRY,    /* CF, in and out */
    COPY_FLIP_OVERFLOW, /* OF, in and out */
    COPY_TO_AH,         /* all but OF go in */
    COPY_FROM_AH,       /* all but OF */
    COPY_BMI,           /* all, AF and PF undefined */
    COPY_EXTRACT,       /* all, AF, PF and SF undefined */
    COPY_CONDITION,     /* in: what the opcode's condition looks at */
    COPY_X87_CONDITION, /* the same of FCMOVcc */
    COPY_X87_COMPARE,   /* ZF, PF and CF; processors differ in the others */
    COPY_CLASSES
};

enum copy_trait {
    COPY_CLASS = 0x1f,      /* mask of enum copy_class */
    COPY_LISTED = 1 << 5,   /* it is on the list */
    COPY_VECTOR = 1 << 6,   /* vector or mask registers, MXCSR */
    COPY_FAULTS = 1 << 7,   /* #DE, #XM, #GP for alignment */
    COPY_NOTHING = 1 << 8,  /* it does nothing that anybody could see: no code */
    COPY_FIXED = 1 << 9,    /* the operand-size prefix changes nothing but where it is mandatory */
    COPY_ALIGNED = 1 << 11, /* memory of 16 bytes and more: VEX-encoded too must it be aligned */
    COPY_UNALIGNED = 1 << 12, /* not even in the legacy encoding */
    COPY_X87 = 1 << 13,       /* the x87 registers */
    COPY_POINTERS = 1 << 14,  /* with the pointers to the last instruction and operand */
    COPY_SPARSE = 1 << 15,    /* by a mask */
    COPY_MERGES = 1 << 10,    /* its destination may stay as it is: read too */
};

/* Traits of an instruction; 0 when it is not on the list. */
uint16_t copy_list_find(ZydisMnemonic mnemonic);

/* The part of it for AVX-512: copy_list_evex.c. */
uint16_t copy_list_find_evex(ZydisMnemonic mnemonic);

/* FLDCW, LDMXCSR, VLDMXCSR: copy_form.control. */
bool copy_loads_control(ZydisMnemonic mnemonic);
