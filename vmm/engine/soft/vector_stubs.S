// SPDX-License-Identifier: Apache-2.0
/*
 * The arithmetic of MMX, SSE and AVX: one stub an instruction, which is that instruction itself with
 * its operands in fixed registers, and a return.
 *
 *     ModRM.reg   xmm0, ymm0, mm0, eax
 *     VEX.vvvv    xmm1, ymm1
 *     ModRM.rm    xmm2, ymm2, mm2, edx
 *
 * Instructions are named by the opcode maps of SDM volume 2, appendix A: prefix, map, opcode. Those
 * with an immediate byte have 256 stubs in a row, since the host wants it in the code too. Each
 * stub is padded to 8 bytes. `vector_entries` says what there is; an opcode that stands in no row
 * below does not exist for the guest.
 */

#include "vmm/engine/soft/stubs.inc"

/* Flags of an entry; struct vector_entry in vector.c. */
.set INT, 0 /* cannot raise a SIMD floating-point exception */
.set FP,  1
.set IMM, 2

.section .rodata.vector_entries, "a"
    .balign 8
.globl vector_entries, vector_entries_end
vector_entries:

.text
.globl vector_stubs, vector_stubs_end
vector_stubs:

.macro entry flags, set, pp, map, op
    .pushsection .rodata.vector_entries, "a"
    .long ((((\set) * 3 + \map) * 4 + \pp) * 256 + \op) | (\flags << 24)
    .long 9b - vector_stubs
    .popsection
.endm

.set modrm, 0xc2 /* reg 0, rm 2 */

.macro legacy_stub pp, map, w, op, imm
    .balign 8, 0xcc
    .if \pp == P66
    .byte 0x66
    .elseif \pp == PF3
    .byte 0xf3
    .elseif \pp == PF2
    .byte 0xf2
    .endif
    .if \w
    .byte 0x48
    .endif
    .byte 0x0f
    .if \map == M38
    .byte 0x38
    .elseif \map == M3A
    .byte 0x3a
    .endif
    .byte \op, modrm
    .if \imm >= 0
    .byte \imm
    .endif
    ret
.endm

/* \vvvv: 1, or 0 for instructions that have no such operand. */
.macro vex_stub vvvv, l, w, pp, map, op, imm
    .balign 8, 0xcc
    .byte 0xc4, 0xe1 + \map, (\w << 7) | (0x78 - \vvvv * 8) | (\l << 2) | \pp, \op, modrm
    .if \imm >= 0
    .byte \imm
    .endif
    ret
.endm

.macro legacy flags, w, pp, map, ops:vararg
    .irp op, \ops
    .balign 8, 0xcc
9:
    .if \flags & IMM
    .set immediate, 0
    .rept 256
    legacy_stub \pp, \map, \w, \op, immediate
    .set immediate, immediate + 1
    .endr
    .else
    legacy_stub \pp, \map, \w, \op, -1
    .endif
    entry (\flags), \w, \pp, \map, \op
    .endr
.endm

.macro vex flags, vvvv, l, w, pp, map, ops:vararg
    .irp op, \ops
    .balign 8, 0xcc
9:
    .if \flags & IMM
    .set immediate, 0
    .rept 256
    vex_stub \vvvv, \l, \w, \pp, \map, \op, immediate
    .set immediate, immediate + 1
    .endr
    .else
    vex_stub \vvvv, \l, \w, \pp, \map, \op, -1
    .endif
    entry (\flags), (2 + \l * 2 + \w), \pp, \map, \op
    .endr
.endm

/* SSE and both lengths of AVX. */
.macro sse_avx flags, vvvv, pp, map, ops:vararg
    legacy \flags, 0, \pp, \map, \ops
    vex \flags, \vvvv, 0, 0, \pp, \map, \ops
    vex \flags, \vvvv, 1, 0, \pp, \map, \ops
.endm

/* SSE and one length of AVX: scalars (VEX.L is ignored) and those that have no 256-bit form. */
.macro sse_avx128 flags, vvvv, pp, map, ops:vararg
    legacy \flags, 0, \pp, \map, \ops
    vex \flags, \vvvv, 0, 0, \pp, \map, \ops
.endm

/* MMX, SSE and both lengths of AVX under the same opcode. */
.macro mmx_sse_avx flags, vvvv, map, ops:vararg
    legacy \flags, 0, NP, \map, \ops
    sse_avx \flags, \vvvv, P66, \map, \ops
.endm

/* Both lengths of AVX. */
.macro avx flags, vvvv, w, pp, map, ops:vararg
    vex \flags, \vvvv, 0, \w, \pp, \map, \ops
    vex \flags, \vvvv, 1, \w, \pp, \map, \ops
.endm

/* ---- map 0F: floating point ---- */

/* UNPCKL, UNPCKH, AND, ANDN, OR, XOR */
sse_avx INT, 1, NP,  M0F, 0x14, 0x15, 0x54, 0x55, 0x56, 0x57
sse_avx INT, 1, P66, M0F, 0x14, 0x15, 0x54, 0x55, 0x56, 0x57
/* MOVMSKPS, MOVMSKPD */
sse_avx INT, 0, NP,  M0F, 0x50
sse_avx INT, 0, P66, M0F, 0x50
/* SQRT, CVTPS2PD or PD2PS, CVTDQ2PS or PS2DQ */
sse_avx FP,  0, NP,  M0F, 0x51, 0x5a, 0x5b
sse_avx FP,  0, P66, M0F, 0x51, 0x5a, 0x5b
sse_avx128 FP, 1, PF3, M0F, 0x51, 0x5a
sse_avx128 FP, 1, PF2, M0F, 0x51, 0x5a
/* CVTTPS2DQ; CVTDQ2PD, CVTTPD2DQ, CVTPD2DQ */
sse_avx FP,  0, PF3, M0F, 0x5b, 0xe6
sse_avx FP,  0, P66, M0F, 0xe6
sse_avx FP,  0, PF2, M0F, 0xe6
/* RSQRT, RCP */
sse_avx INT, 0, NP,  M0F, 0x52, 0x53
sse_avx128 INT, 1, PF3, M0F, 0x52, 0x53
/* ADD, MUL, SUB, MIN, DIV, MAX */
sse_avx FP,  1, NP,  M0F, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f
sse_avx FP,  1, P66, M0F, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f
sse_avx128 FP, 1, PF3, M0F, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f
sse_avx128 FP, 1, PF2, M0F, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f
/* HADD, HSUB, ADDSUB */
sse_avx FP,  1, P66, M0F, 0x7c, 0x7d, 0xd0
sse_avx FP,  1, PF2, M0F, 0x7c, 0x7d, 0xd0
/* MOVSLDUP, MOVSHDUP, MOVDDUP */
sse_avx INT, 0, PF3, M0F, 0x12, 0x16
sse_avx INT, 0, PF2, M0F, 0x12
/* UCOMIS, COMIS */
sse_avx128 FP, 0, NP,  M0F, 0x2e, 0x2f
sse_avx128 FP, 0, P66, M0F, 0x2e, 0x2f
/* CVTPI2PS, CVTTPS2PI, CVTPS2PI; the same with PD */
legacy FP, 0, NP,  M0F, 0x2a, 0x2c, 0x2d
legacy FP, 0, P66, M0F, 0x2a, 0x2c, 0x2d
/* CVTSI2SS, CVTSI2SD; CVTT and CVT to general registers of 32 and 64 bits */
sse_avx128 FP, 1, PF3, M0F, 0x2a
sse_avx128 FP, 1, PF2, M0F, 0x2a
sse_avx128 FP, 0, PF3, M0F, 0x2c, 0x2d
sse_avx128 FP, 0, PF2, M0F, 0x2c, 0x2d
legacy FP, 1, PF3, M0F, 0x2a, 0x2c, 0x2d
legacy FP, 1, PF2, M0F, 0x2a, 0x2c, 0x2d
vex FP, 1, 0, 1, PF3, M0F, 0x2a
vex FP, 1, 0, 1, PF2, M0F, 0x2a
vex FP, 0, 0, 1, PF3, M0F, 0x2c, 0x2d
vex FP, 0, 0, 1, PF2, M0F, 0x2c, 0x2d
/* CMPPS, CMPPD, CMPSS, CMPSD; SHUFPS, SHUFPD */
sse_avx FP|IMM, 1, NP,  M0F, 0xc2
sse_avx FP|IMM, 1, P66, M0F, 0xc2
sse_avx128 FP|IMM, 1, PF3, M0F, 0xc2
sse_avx128 FP|IMM, 1, PF2, M0F, 0xc2
sse_avx IMM, 1, NP,  M0F, 0xc6
sse_avx IMM, 1, P66, M0F, 0xc6

/* ---- map 0F: integers ---- */

/* PUNPCKL*, PACK*, PCMPGT*, PUNPCKH*, PACKSSDW */
mmx_sse_avx INT, 1, M0F, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b
/* PUNPCKLQDQ, PUNPCKHQDQ */
sse_avx INT, 1, P66, M0F, 0x6c, 0x6d
/* PCMPEQ* */
mmx_sse_avx INT, 1, M0F, 0x74, 0x75, 0x76
/* PSRL*, PADDQ, PMULLW */
mmx_sse_avx INT, 1, M0F, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5
/* PSUBUS*, PMINUB, PAND, PADDUS*, PMAXUB, PANDN */
mmx_sse_avx INT, 1, M0F, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
/* PAVGB, PSRA*, PAVGW, PMULH* */
mmx_sse_avx INT, 1, M0F, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5
/* PSUBS*, PMINSW, POR, PADDS*, PMAXSW, PXOR */
mmx_sse_avx INT, 1, M0F, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef
/* PSLL*, PMULUDQ, PMADDWD, PSADBW, PSUB*, PADD* */
mmx_sse_avx INT, 1, M0F, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6
mmx_sse_avx INT, 1, M0F, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe
/* PMOVMSKB */
mmx_sse_avx INT, 0, M0F, 0xd7
/* PSHUFW; PSHUFD, PSHUFHW, PSHUFLW */
legacy IMM, 0, NP, M0F, 0x70
sse_avx IMM, 0, P66, M0F, 0x70
sse_avx IMM, 0, PF3, M0F, 0x70
sse_avx IMM, 0, PF2, M0F, 0x70

/* ---- map 0F38 ---- */

/* PSHUFB, PHADD*, PMADDUBSW, PHSUB*, PSIGN*, PMULHRSW; PABS* */
mmx_sse_avx INT, 1, M38, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b
mmx_sse_avx INT, 0, M38, 0x1c, 0x1d, 0x1e
/* PTEST; PMOVSX*, PMOVZX* */
sse_avx INT, 0, P66, M38, 0x17
sse_avx INT, 0, P66, M38, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35
/* PMULDQ, PCMPEQQ, PACKUSDW, PCMPGTQ, PMIN*, PMAX*, PMULLD */
sse_avx INT, 1, P66, M38, 0x28, 0x29, 0x2b, 0x37
sse_avx INT, 1, P66, M38, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40
/* PHMINPOSUW */
sse_avx128 INT, 0, P66, M38, 0x41
/* VTESTPS, VTESTPD, VPERMILPS, VPERMILPD; VCVTPH2PS */
avx INT, 0, 0, P66, M38, 0x0e, 0x0f
avx INT, 1, 0, P66, M38, 0x0c, 0x0d
avx FP,  0, 0, P66, M38, 0x13
/* VPERMPS, VPERMD */
vex INT, 1, 1, 0, P66, M38, 0x16, 0x36
/* VBROADCASTSS, VPBROADCASTD, VPBROADCASTQ, VPBROADCASTB, VPBROADCASTW; VBROADCASTSD */
avx INT, 0, 0, P66, M38, 0x18, 0x58, 0x59, 0x78, 0x79
vex INT, 0, 1, 0, P66, M38, 0x19
/* VPSRLV*, VPSRAVD, VPSLLV* */
avx INT, 1, 0, P66, M38, 0x45, 0x46, 0x47
avx INT, 1, 1, P66, M38, 0x45, 0x47
/* FMADDSUB, FMSUBADD, FMADD, FMSUB, FNMADD, FNMSUB of PS and PD: 132, 213, 231; then of SS and SD */
avx FP,  1, 0, P66, M38, 0x96, 0x97, 0x98, 0x9a, 0x9c, 0x9e
avx FP,  1, 0, P66, M38, 0xa6, 0xa7, 0xa8, 0xaa, 0xac, 0xae
avx FP,  1, 0, P66, M38, 0xb6, 0xb7, 0xb8, 0xba, 0xbc, 0xbe
avx FP,  1, 1, P66, M38, 0x96, 0x97, 0x98, 0x9a, 0x9c, 0x9e
avx FP,  1, 1, P66, M38, 0xa6, 0xa7, 0xa8, 0xaa, 0xac, 0xae
avx FP,  1, 1, P66, M38, 0xb6, 0xb7, 0xb8, 0xba, 0xbc, 0xbe
vex FP,  1, 0, 0, P66, M38, 0x99, 0x9b, 0x9d, 0x9f, 0xa9, 0xab, 0xad, 0xaf, 0xb9, 0xbb, 0xbd, 0xbf
vex FP,  1, 0, 1, P66, M38, 0x99, 0x9b, 0x9d, 0x9f, 0xa9, 0xab, 0xad, 0xaf, 0xb9, 0xbb, 0xbd, 0xbf
/* AESIMC; AESENC, AESENCLAST, AESDEC, AESDECLAST (256 bits: VAES) */
sse_avx128 INT, 0, P66, M38, 0xdb
sse_avx INT, 1, P66, M38, 0xdc, 0xdd, 0xde, 0xdf
/* GF2P8MULB */
sse_avx INT, 1, P66, M38, 0xcf
/* SHA1NEXTE, SHA1MSG1, SHA1MSG2, SHA256MSG1, SHA256MSG2 */
legacy INT, 0, NP, M38, 0xc8, 0xc9, 0xca, 0xcc, 0xcd

/* ---- map 0F3A ---- */

/* VPERMQ, VPERMPD; VPERMILPS, VPERMILPD; ROUNDPS, ROUNDPD; ROUNDSS, ROUNDSD */
vex IMM, 0, 1, 1, P66, M3A, 0x00, 0x01
avx IMM, 0, 0, P66, M3A, 0x04, 0x05
sse_avx FP|IMM, 0, P66, M3A, 0x08, 0x09
sse_avx128 FP|IMM, 1, P66, M3A, 0x0a, 0x0b
/* VPBLENDD; BLENDPS, BLENDPD, PBLENDW */
avx IMM, 1, 0, P66, M3A, 0x02
sse_avx IMM, 1, P66, M3A, 0x0c, 0x0d, 0x0e
/* PALIGNR */
mmx_sse_avx IMM, 1, M3A, 0x0f
/* VPERM2F128, VINSERTF128, VINSERTI128, VPERM2I128 */
vex IMM, 1, 1, 0, P66, M3A, 0x06, 0x18, 0x38, 0x46
/* VCVTPS2PH: its destination is ModRM.rm, so reg and rm change places */
.set modrm, 0xd0
avx FP|IMM, 0, 0, P66, M3A, 0x1d
.set modrm, 0xc2
/* INSERTPS */
sse_avx128 IMM, 1, P66, M3A, 0x21
/* DPPS; DPPD; MPSADBW; PCLMULQDQ (256 bits: VPCLMULQDQ) */
sse_avx FP|IMM, 1, P66, M3A, 0x40
sse_avx128 FP|IMM, 1, P66, M3A, 0x41
sse_avx IMM, 1, P66, M3A, 0x42
sse_avx IMM, 1, P66, M3A, 0x44
/* PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI */
legacy IMM, 0, P66, M3A, 0x60, 0x61, 0x62, 0x63
/* AESKEYGENASSIST */
sse_avx128 IMM, 0, P66, M3A, 0xdf
/* SHA1RNDS4 */
legacy IMM, 0, NP, M3A, 0xcc
/* GF2P8AFFINEQB, GF2P8AFFINEINVQB */
legacy IMM, 0, P66, M3A, 0xce, 0xcf
avx IMM, 1, 1, P66, M3A, 0xce, 0xcf

/* SHA256RNDS2 reads xmm0 besides its two operands; the result goes where all results go. */
    .balign 8, 0xcc
.globl vector_sha256rnds2
vector_sha256rnds2:
    .byte 0x0f, 0x38, 0xcb, 0xca /* sha256rnds2 %xmm2, %xmm1 */
    movdqa %xmm1, %xmm0
    ret
    .balign 8, 0xcc
vector_stubs_end:

.section .rodata.vector_entries, "a"
vector_entries_end:

/* ---- calling a stub from C; vector.h ---- */

.text
/* rdi destination, rsi first source, rdx second source, rcx stub, r8 guest's MXCSR */
function vector_run_128
    movdqu (%rdi), %xmm0
    movdqu (%rsi), %xmm1
    movdqu (%rdx), %xmm2
    call *%rcx
    movdqu %xmm0, (%rdi)
    ret

function vector_run_256
    vmovdqu (%rdi), %ymm0
    vmovdqu (%rsi), %ymm1
    vmovdqu (%rdx), %ymm2
    call *%rcx
    vmovdqu %ymm0, (%rdi)
    vzeroupper
    ret

function vector_run_128_fp
    movdqu (%rdi), %xmm0
    movdqu (%rsi), %xmm1
    movdqu (%rdx), %xmm2
    ldmxcsr (%r8)
    call *%rcx
    stmxcsr (%r8)
    ldmxcsr host_mxcsr(%rip)
    movdqu %xmm0, (%rdi)
    mov $1, %eax
    ret

function vector_run_256_fp
    vmovdqu (%rdi), %ymm0
    vmovdqu (%rsi), %ymm1
    vmovdqu (%rdx), %ymm2
    ldmxcsr (%r8)
    call *%rcx
    stmxcsr (%r8)
    ldmxcsr host_mxcsr(%rip)
    vmovdqu %ymm0, (%rdi)
    vzeroupper
    mov $1, %eax
    ret

/* rdi struct vector_operands, rsi stub */
.macro general_begin
    lea 152(%rdi), %r8
    mov %rsi, %r9
    mov 128(%rdi), %rax
    mov 136(%rdi), %rdx
    ldmxcsr (%r8)
    call *%r9
    pushfq
    pop 144(%rdi)
    stmxcsr (%r8)
    ldmxcsr host_mxcsr(%rip)
    mov %rax, 128(%rdi)
    mov %rcx, 136(%rdi)
.endm

function vector_run_mixed
    movdqu (%rdi), %xmm0
    movdqu 32(%rdi), %xmm1
    movdqu 64(%rdi), %xmm2
    general_begin
    movdqu %xmm0, (%rdi)
    mov $1, %eax
    ret

function vector_run_mixed_256
    vmovdqu (%rdi), %ymm0
    vmovdqu 32(%rdi), %ymm1
    vmovdqu 64(%rdi), %ymm2
    general_begin
    vmovdqu %ymm0, (%rdi)
    vzeroupper
    mov $1, %eax
    ret

function vector_run_mmx
    movdqu (%rdi), %xmm0
    movdqu 64(%rdi), %xmm2
    movq 96(%rdi), %mm0
    movq 104(%rdi), %mm2
    general_begin
    movdqu %xmm0, (%rdi)
    movq %mm0, 96(%rdi)
    emms
    mov $1, %eax
    ret

/* Where the SIGFPE handler goes on after a stub that raised an unmasked exception: the stack holds
 * the way back into one of the functions above, whose caller is told. */
function vector_trap
    add $8, %rsp
    stmxcsr (%r8)
    ldmxcsr host_mxcsr(%rip)
    emms
    xor %eax, %eax
    ret

.section .note.GNU-stack, "", @progbits
