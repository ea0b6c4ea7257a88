// SPDX-License-Identifier: Apache-2.0
/*
 * What an instruction that is copied for the host is said to read and write, and which ones are
 * refused.
 */
#include "tests/unit/soft_copy.h"

#define STATUS FLAGS_STATUS

struct flag_row {
    const char *bytes;
    uint32_t read, written, killed, killed_exactly;
};

static void flags_are_those_of_the_manual(void **state)
{
    static const struct flag_row rows[] = {
        {"01c8", 0, STATUS, STATUS, STATUS},                                  /* add */
        {"11c8", FLAG_CF, STATUS, STATUS, STATUS},                            /* adc */
        {"21c8", 0, STATUS, STATUS, STATUS & ~FLAG_AF},                       /* and */
        {"89c8", 0, 0, 0, 0},                                                 /* mov */
        {"f7d0", 0, 0, 0, 0},                                                 /* not */
        {"ffc0", 0, STATUS & ~FLAG_CF, STATUS & ~FLAG_CF, STATUS & ~FLAG_CF}, /* inc */
        {"d3e0", 0, STATUS, 0, 0},                                            /* shl eax, cl */
        {"c1e020", 0, 0, 0, 0},                                         /* shl eax, 32: by 0 */
        {"48c1e020", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_OF)}, /* shl rax, 32 */
        {"d1e0", 0, STATUS, STATUS, STATUS & ~FLAG_AF},                 /* shl eax, 1 */
        {"c0e009", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_OF | FLAG_CF)}, /* shl al, 9 */
        {"c1c003", 0, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF, FLAG_CF},           /* rol eax, 3 */
        {"d3d0", FLAG_CF, FLAG_CF | FLAG_OF, 0, 0},                             /* rcl eax, cl */
        {"660fa4c811", 0, STATUS, STATUS, 0},                               /* shld ax, cx, 17 */
        {"0fafc1", 0, STATUS, STATUS, FLAG_CF | FLAG_OF},                   /* imul */
        {"f7f1", 0, STATUS, STATUS, 0},                                     /* div */
        {"0fa3c8", 0, STATUS, STATUS & ~FLAG_ZF, FLAG_CF},                  /* bt */
        {"0fbcc1", 0, STATUS, STATUS, FLAG_ZF},                             /* bsf */
        {"f30fbcc1", 0, STATUS, STATUS, FLAG_CF | FLAG_ZF},                 /* tzcnt */
        {"0fc70f", 0, FLAG_ZF, FLAG_ZF, FLAG_ZF},                           /* cmpxchg8b */
        {"f8", 0, FLAG_CF, FLAG_CF, FLAG_CF},                               /* clc */
        {"f5", FLAG_CF, FLAG_CF, FLAG_CF, FLAG_CF},                         /* cmc */
        {"9f", STATUS & ~FLAG_OF, 0, 0, 0},                                 /* lahf */
        {"9e", 0, STATUS & ~FLAG_OF, STATUS & ~FLAG_OF, STATUS & ~FLAG_OF}, /* sahf */
        {"0f9fc0", FLAG_ZF | FLAG_SF | FLAG_OF, 0, 0, 0},                   /* setg */
        {"0f42c1", FLAG_CF, 0, 0, 0},                                       /* cmovb */
        {"0f46c1", FLAG_CF | FLAG_ZF, 0, 0, 0},                             /* cmovbe */
        {"0f4ac1", FLAG_PF, 0, 0, 0},                                       /* cmovp */
        {"f3480f38f6c1", FLAG_OF, FLAG_OF, FLAG_OF, FLAG_OF},               /* adox */
        {"c4e2f3f7c2", 0, 0, 0, 0},                                         /* shrx */
        {"0f2ec1", 0, STATUS, STATUS, STATUS},                              /* ucomiss */
        {"660f3817c1", 0, STATUS, STATUS, STATUS},                          /* ptest */
        {"0f58c1", 0, 0, 0, 0},                                             /* addps */
        {"c4e2f8f3c9", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_PF)},   /* blsr */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form loose, exact;

        loose = classify_text(8, rows[i].bytes, false);
        exact = classify_text(8, rows[i].bytes, true);
        assert_true(loose.copies);
        assert_int_equal(loose.flags_read, rows[i].read);
        assert_int_equal(loose.flags_written, rows[i].written);
        assert_int_equal(loose.flags_killed, rows[i].killed);
        assert_int_equal(exact.flags_read, rows[i].read);
        assert_int_equal(exact.flags_killed, rows[i].killed_exactly);
    }
}

#define BIT(name) (1U << GPR_##name)

struct register_row {
    const char *bytes;
    unsigned read, written;
};

static void registers_are_those_of_the_manual(void **state)
{
    static const struct register_row rows[] = {
        {"4801c8", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* add rax, rcx */
        {"89c8", BIT(RCX), BIT(RAX)},                             /* mov eax, ecx */
        {"6689c8", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* mov ax, cx */
        {"88e1", BIT(RAX) | BIT(RCX), BIT(RCX)},                  /* mov cl, ah */
        {"0f94c3", BIT(RBX), BIT(RBX)},                           /* setz bl */
        {"f7e6", BIT(RAX) | BIT(RSI), BIT(RAX) | BIT(RDX)},       /* mul esi */
        {"f6f3", BIT(RAX) | BIT(RBX), BIT(RAX)},                  /* div bl */
        {"d3e6", BIT(RCX) | BIT(RSI), BIT(RSI)},                  /* shl esi, cl */
        {"4d87c8", BIT(R8) | BIT(R9), BIT(R8) | BIT(R9)},         /* xchg r8, r9 */
        {"0f42c1", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* cmovb eax, ecx */
        {"0fbcc1", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* bsf eax, ecx */
        {"4889e5", BIT(RSP), BIT(RBP)},                           /* mov rbp, rsp */
        {"c4e2f3f6c6", BIT(RDX) | BIT(RSI), BIT(RAX) | BIT(RCX)}, /* mulx rax, rcx, rsi */
        {"480fc70f", BIT(RAX) | BIT(RDX) | BIT(RBX) | BIT(RCX), BIT(RAX) | BIT(RDX)},
        {"4898", BIT(RAX), BIT(RAX)},                    /* cdqe */
        {"99", BIT(RAX), BIT(RDX)},                      /* cdq */
        {"8b0437", 0, BIT(RAX)},                         /* mov eax, [rdi + rsi] */
        {"660f7ec1", 0, BIT(RCX)},                       /* movd ecx, xmm0 */
        {"66480f6ec1", BIT(RCX), 0},                     /* movq xmm0, rcx */
        {"660fd7c1", 0, BIT(RAX)},                       /* pmovmskb eax, xmm1 */
        {"f20f2dc1", 0, BIT(RAX)},                       /* cvtsd2si eax, xmm1 */
        {"660f3a61c100", BIT(RAX) | BIT(RDX), BIT(RCX)}, /* pcmpestri */
        {"660f3a22c100", BIT(RCX), 0},                   /* pinsrd xmm0, ecx, 0 */
        {"9f", BIT(RAX), BIT(RAX)},                      /* lahf */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form form = classify_text(8, rows[i].bytes, false);

        assert_true(form.copies);
        assert_int_equal(form.gpr_read, rows[i].read);
        assert_int_equal(form.gpr_written, rows[i].written);
    }
}

struct memory_row {
    const char *bytes;
    bool memory, reads, writes, faults;
    unsigned size;
};

static void memory_is_that_of_the_manual(void **state)
{
    static const struct memory_row rows[] = {
        {"8b07", true, true, false, false, 4},          /* mov eax, [rdi] */
        {"488907", true, false, true, false, 8},        /* mov [rdi], rax */
        {"480107", true, true, true, false, 8},         /* add [rdi], rax */
        {"803f00", true, true, false, false, 1},        /* cmp byte [rdi], 0 */
        {"0fb707", true, true, false, false, 2},        /* movzx eax, word [rdi] */
        {"0f9407", true, false, true, false, 1},        /* setz [rdi] */
        {"480fc70f", true, true, true, true, 16},       /* cmpxchg16b [rdi] */
        {"0fc70f", true, true, true, false, 8},         /* cmpxchg8b [rdi] */
        {"f737", true, true, false, true, 4},           /* div dword [rdi] */
        {"488d07", false, false, false, false, 0},      /* lea rax, [rdi] */
        {"0f1f00", false, false, false, false, 0},      /* nop [rax] */
        {"0f1807", false, false, false, false, 0},      /* prefetchnta [rdi] */
        {"0fba2703", true, true, false, false, 4},      /* bt [rdi], 3 */
        {"0fba2f03", true, true, true, false, 4},       /* bts [rdi], 3 */
        {"f7f1", false, false, false, true, 0},         /* div ecx */
        {"0f4207", true, true, false, false, 4},        /* cmovb eax, [rdi] */
        {"f30f1007", true, true, false, false, 4},      /* movss xmm0, [rdi] */
        {"0f1707", true, false, true, false, 8},        /* movhps [rdi], xmm0 */
        {"0f1607", true, true, false, false, 8},        /* movhps xmm0, [rdi] */
        {"0f2807", true, true, false, true, 16},        /* movaps xmm0, [rdi] */
        {"0f1007", true, true, false, false, 16},       /* movups xmm0, [rdi] */
        {"c5fc2807", true, true, false, true, 32},      /* vmovaps ymm0, [rdi] */
        {"c5fc1007", true, true, false, false, 32},     /* vmovups ymm0, [rdi] */
        {"c5fdfc07", true, true, false, false, 32},     /* vpaddb ymm0, ymm0, [rdi] */
        {"660ffc07", true, true, false, true, 16},      /* paddb xmm0, [rdi] */
        {"660fe707", true, false, true, true, 16},      /* movntdq [rdi], xmm0 */
        {"f20f5807", true, true, false, true, 8},       /* addsd xmm0, [rdi] */
        {"f20f2a07", true, true, false, true, 4},       /* cvtsi2sd xmm0, dword [rdi] */
        {"f2480f2a07", true, true, false, true, 8},     /* cvtsi2sd xmm0, qword [rdi] */
        {"660f3a200700", true, true, false, false, 1},  /* pinsrb xmm0, [rdi], 0 */
        {"660f3a140700", true, false, true, false, 1},  /* pextrb [rdi], xmm0, 0 */
        {"c4e27d1807", true, true, false, false, 4},    /* vbroadcastss ymm0, [rdi] */
        {"c4e27d5a07", true, true, false, false, 16},   /* vbroadcasti128 ymm0, [rdi] */
        {"c4e37d190701", true, false, true, false, 16}, /* vextractf128 [rdi], ymm0, 1 */
        {"c4e27d1307", true, true, false, true, 16},    /* vcvtph2ps ymm0, [rdi] */
        {"c4e37d1d0700", true, false, true, true, 16},  /* vcvtps2ph [rdi], ymm0, 0 */
        {"660f382007", true, true, false, false, 8},    /* pmovsxbw xmm0, [rdi] */
        {"660f382207", true, true, false, false, 2},    /* pmovsxbq xmm0, [rdi] */
        {"0fae1f", true, false, true, false, 4},        /* stmxcsr [rdi] */
        {"0fb107", true, true, true, false, 4},         /* cmpxchg [rdi], eax */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form form = classify_text(8, rows[i].bytes, false);

        assert_true(form.copies);
        assert_int_equal(form.memory, rows[i].memory);
        assert_int_equal(form.reads, rows[i].reads);
        assert_int_equal(form.writes, rows[i].writes);
        assert_int_equal(form.faults, rows[i].faults);
        assert_int_equal(form.size, rows[i].size);
    }
}

static const char *const refused[] = {
    "0f05",           /* syscall */
    "0f34",           /* sysenter */
    "0f01ef",         /* wrpkru */
    "0f01ee",         /* rdpkru */
    "f3480faed8",     /* wrgsbase */
    "f3480faed0",     /* wrfsbase */
    "f3480faec0",     /* rdfsbase */
    "660faef1",       /* tpause */
    "f30faef1",       /* umonitor */
    "f20faef1",       /* umwait */
    "c7f800000000",   /* xbegin */
    "c6f800",         /* xabort */
    "0f01d5",         /* xend */
    "0fae2f",         /* xrstor */
    "0fae27",         /* xsave */
    "0fae0f",         /* fxrstor */
    "0fae3f",         /* clflush */
    "8ed8",           /* mov ds, ax */
    "8cd8",           /* mov eax, ds */
    "0f20c0",         /* mov rax, cr0 */
    "0f22c0",         /* mov cr0, rax */
    "0f23c0",         /* mov dr0, rax */
    "0f31",           /* rdtsc */
    "0f01f9",         /* rdtscp */
    "0fa2",           /* cpuid */
    "0fc7f0",         /* rdrand */
    "f30fc7f8",       /* rdpid */
    "cc",             /* int3 */
    "cd80",           /* int 0x80 */
    "f1",             /* int1 */
    "0f0b",           /* ud2 */
    "0fb9c0",         /* ud1 */
    "0f01d7",         /* enclu */
    "0f01c1",         /* vmcall */
    "0f01d9",         /* vmmcall */
    "0f01d0",         /* xgetbv */
    "0f01d1",         /* xsetbv */
    "660ff7c1",       /* maskmovdqu */
    "ff1f",           /* call far [rdi] */
    "ff2f",           /* jmp far [rdi] */
    "ff17",           /* call [rdi] */
    "e800000000",     /* call */
    "c3",             /* ret */
    "cb",             /* retf */
    "cf",             /* iret */
    "7400",           /* jz */
    "e200",           /* loop */
    "50",             /* push */
    "58",             /* pop */
    "8f07",           /* pop [rdi] */
    "c9",             /* leave */
    "9c",             /* pushf */
    "9d",             /* popf */
    "fa",             /* cli */
    "fb",             /* sti */
    "fd",             /* std */
    "f4",             /* hlt */
    "a4",             /* movsb */
    "f348ab",         /* rep stosq */
    "d7",             /* xlat */
    "e460",           /* in */
    "ee",             /* out */
    "0fa307",         /* bt [rdi], eax */
    "0fab07",         /* bts [rdi], eax */
    "660fc8",         /* bswap ax */
    "6663c8",         /* movsxd cx, eax */
    "f390",           /* pause */
    "0f01c8",         /* monitor */
    "0f01f8",         /* swapgs */
    "f30f01e8",       /* setssbsy */
    "f30faee8",       /* incsspd */
    "0f38f907",       /* movdiri */
    "660f38f807",     /* movdir64b */
    "0f01fc",         /* clzero */
    "0f01e8",         /* serialize */
    "0f00c8",         /* str */
    "0f0107",         /* sgdt */
    "0f02c1",         /* lar */
    "0f32",           /* rdmsr */
    "0f30",           /* wrmsr */
    "0f06",           /* clts */
    "0f09",           /* wbinvd */
    "c4e26d920c07",   /* vgatherdps ymm1, [rdi + ymm0], ymm2 */
    "0f2ac1",         /* cvtpi2ps xmm0, mm1 */
    "0f2a07",         /* cvtpi2ps xmm0, [rdi] */
    "f30fd6c1",       /* movq2dq xmm0, mm1 */
    "f20fd6c1",       /* movdq2q mm0, xmm1 */
    "f20f2b07",       /* movntsd [rdi], xmm0 */
    "62f27d49900c07", /* vpgatherdd zmm1{k1}, [rdi + zmm0] */
    "62f27d49a00c07", /* vpscatterdd [rdi + zmm0]{k1}, zmm1 */
};

static void what_is_not_on_the_list_is_refused(void **state)
{
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (classify_text(8, refused[i], false).copies)
            fail_msg("%s is copied", refused[i]);
}

static void hidden_features_are_refused(void **state)
{
    static const struct copy_features none = {0}, avx = {.bmi2 = true, .avx = true};
    struct decoded mulx = decode_text(8, "c4e2f3f6c2"), andn = decode_text(8, "c4c2f8f2c3"),
                   add = decode_text(8, "c5f858c1"), legacy = decode_text(8, "0f58c1"),
                   zmm = decode_text(8, "62f17c4858c1"), mask = decode_text(8, "c5f998c1");
    struct copy_form form;

    copy_classify(&mulx.instruction, mulx.operands, &none, false, &form);
    assert_false(form.copies);
    copy_classify(&andn.instruction, andn.operands, &none, false, &form);
    assert_true(form.copies);
    copy_classify(&add.instruction, add.operands, &none, false, &form);
    assert_false(form.copies);
    copy_classify(&legacy.instruction, legacy.operands, &none, false, &form);
    assert_true(form.copies && form.vector);
    copy_classify(&zmm.instruction, zmm.operands, &avx, false, &form);
    assert_false(form.copies);
    copy_classify(&mask.instruction, mask.operands, &avx, false, &form);
    assert_false(form.copies);
    /* Outside 64-bit mode VZEROUPPER leaves half of the registers alone. */
    assert_true(classify_text(8, "c5f877", false).copies);
    assert_false(classify_text(4, "c5f877", false).copies);
    /* VEX.W counts for nothing in 32-bit code. */
    assert_false(classify_text(4, "c4e2f3f6c2", false).copies);
    assert_true(classify_text(4, "c4e273f6c2", false).copies);
}

static void masks_touch_parts_of_memory(void **state)
{
    /* vmovdqu32 from and to [rdi], vpcompressd, vaddss, vaddps with a broadcast, vpmovzxbd */
    static const struct {
        const char *text;
        bool sparse, writes;
        unsigned size;
    } forms[] = {{"62f17e486f07", false, false, 64}, {"62f17e496f07", true, false, 64},
                 {"62f17e497f07", true, true, 64},   {"62f27d488b07", true, true, 64},
                 {"62f17e095807", true, false, 4},   {"62f17c585807", false, false, 4},
                 {"62f27d483107", false, false, 16}};

    for (unsigned i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct copy_form form = classify_text(8, forms[i].text, false);

        if (!form.copies || !form.avx512 || !form.vector || form.sparse != forms[i].sparse ||
            form.writes != forms[i].writes || form.size != forms[i].size)
            fail_msg("%s", forms[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_those_of_the_manual),
        cmocka_unit_test(registers_are_those_of_the_manual),
        cmocka_unit_test(memory_is_that_of_the_manual),
        cmocka_unit_test(what_is_not_on_the_list_is_refused),
        cmocka_unit_test(hidden_features_are_refused),
        cmocka_unit_test(masks_touch_parts_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
