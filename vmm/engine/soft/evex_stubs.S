// SPDX-License-Identifier: Apache-2.0
/*
 * The arithmetic of AVX-512: one stub an instruction, which is that instruction itself with its
 * operands in fixed registers, and a return.
 *
 *     ModRM.reg   zmm0, k0, eax; where ModRM.rm is the destination, zmm2
 *     EVEX.vvvv   zmm1
 *     ModRM.rm    zmm2, k2, edx; where it is the destination, zmm0, eax
 *     EVEX.aaa    k1, where the instruction takes a mask
 *
 * Instructions are named by the opcode maps of SDM volume 2, appendix A: W, prefix, map, opcode.
 * Those with an immediate byte have 256 stubs in a row, since the host wants it in the code too.
 * Each stub is padded to 8 bytes. `evex_entries` says what there is; an opcode that stands in no row
 * below does not exist for the guest. Their encodings are written as bytes, so that any assembler
 * and any host can have this file; only hosts with AVX-512 come to execute it.
 */

#include "vmm/engine/soft/stubs.inc"

/* A map beside those of stubs.inc. */
.set GROUPS, 3 /* 12 to 14 of map 0F: by the opcode's lowest two bits and ModRM.reg */

/* What an instruction has. */
.set IMM,  1
.set MASK, 2
.set VVVV, 4

/* Vector lengths that it has: bits for 128, 256 and 512. Scalars ignore theirs. */
.set L0,  1
.set L2,  4
.set L12, 6
.set ALL, 7

.section .rodata.evex_entries, "a"
    .balign 8
.globl evex_entries, evex_entries_end
evex_entries:

.text
.globl evex_stubs, evex_stubs_end
evex_stubs:

.macro stub flags, l, w, pp, map, op, modrm, imm
    .balign 8, 0xcc
    .byte 0x62, 0xf1 + \map
    .byte (\w << 7) | (0x78 - ((\flags & VVVV) / VVVV) * 8) | 4 | \pp
    .byte (\l << 5) | 8 | ((\flags & MASK) / MASK)
    .byte \op, \modrm
    .if \imm >= 0
    .byte \imm
    .endif
    ret
.endm

/* \name is what the entry calls the opcode. */
.macro stubs flags, lengths, w, pp, map, op, modrm, named_map, name
    .irp l, 0, 1, 2
    .if (\lengths >> \l) & 1
    .balign 8, 0xcc
9:
    .if (\flags) & IMM
    .set immediate, 0
    .rept 256
    stub (\flags), \l, \w, \pp, \map, \op, \modrm, immediate
    .set immediate, immediate + 1
    .endr
    .else
    stub (\flags), \l, \w, \pp, \map, \op, \modrm, -1
    .endif
    .pushsection .rodata.evex_entries, "a"
    .long ((((\l * 2 + \w) * 4 + \named_map) * 4 + \pp) * 256 + \name) | (((\flags) & IMM) << 24)
    .long 9b - evex_stubs
    .popsection
    .endif
    .endr
.endm

.macro evex flags, lengths, w, pp, map, ops:vararg
    .irp op, \ops
    stubs (\flags), \lengths, \w, \pp, \map, \op, 0xc2, \map, \op
    .endr
.endm

/* ModRM.rm is the destination. */
.macro store flags, lengths, w, pp, map, ops:vararg
    .irp op, \ops
    stubs (\flags), \lengths, \w, \pp, \map, \op, 0xd0, \map, \op
    .endr
.endm

/* ModRM.reg is part of the opcode, EVEX.vvvv the destination, which is number 0 here. */
.macro group flags, lengths, w, op, reg
    stubs ((\flags) | IMM), \lengths, \w, P66, M0F, \op, (0xc2 | \reg << 3), GROUPS, ((\op & 3) << 3 | \reg)
.endm

/* VUCOMISS, VCOMISS */
evex 0, L0, 0, NP, M0F, 0x2e, 0x2f
/* VMOVHLPS, VMOVLHPS */
evex VVVV, L0, 0, NP, M0F, 0x12, 0x16
/* VMOVUPS, VMOVAPS, VSQRTPS, VCVTPS2PD, VCVTDQ2PS, VCVTTPS2UDQ, VCVTPS2UDQ */
evex MASK, ALL, 0, NP, M0F, 0x10, 0x28, 0x51, 0x5a, 0x5b, 0x78, 0x79
/* VUNPCKLPS, VUNPCKHPS, VANDPS, VANDNPS, VORPS, VXORPS, VADDPS, VMULPS, VSUBPS, VMINPS, VDIVPS,
 * VMAXPS */
evex MASK|VVVV, ALL, 0, NP, M0F, 0x14, 0x15, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5c, 0x5d
evex MASK|VVVV, ALL, 0, NP, M0F, 0x5e, 0x5f
/* VCVTQQ2PS, VCVTTPD2UDQ, VCVTPD2UDQ */
evex MASK, ALL, 1, NP, M0F, 0x5b, 0x78, 0x79
/* VMOVD */
evex 0, L0, 0, P66, M0F, 0x6e
/* VPSADBW */
evex VVVV, ALL, 0, P66, M0F, 0xf6
/* VCVTPS2DQ, VMOVDQA32, VCVTTPS2UQQ, VCVTPS2UQQ, VCVTTPS2QQ, VCVTPS2QQ */
evex MASK, ALL, 0, P66, M0F, 0x5b, 0x6f, 0x78, 0x79, 0x7a, 0x7b
/* VPUNPCKLBW, VPUNPCKLWD, VPUNPCKLDQ, VPACKSSWB, VPCMPGTB, VPCMPGTW, VPCMPGTD, VPACKUSWB,
 * VPUNPCKHBW, VPUNPCKHWD, VPUNPCKHDQ, VPACKSSDW, VPCMPEQB, VPCMPEQW, VPCMPEQD, VPSRLW, VPSRLD,
 * VPMULLW, VPSUBUSB, VPSUBUSW, VPMINUB, VPANDD, VPADDUSB, VPADDUSW, VPMAXUB, VPANDND, VPAVGB,
 * VPSRAW, VPSRAD, VPAVGW, VPMULHUW, VPMULHW, VPSUBSB, VPSUBSW, VPMINSW, VPORD, VPADDSB,
 * VPADDSW, VPMAXSW, VPXORD, VPSLLW, VPSLLD, VPMADDWD, VPSUBB, VPSUBW, VPSUBD, VPADDB, VPADDW,
 * VPADDD */
evex MASK|VVVV, ALL, 0, P66, M0F, 0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69
evex MASK|VVVV, ALL, 0, P66, M0F, 0x6a, 0x6b, 0x74, 0x75, 0x76, 0xd1, 0xd2, 0xd5, 0xd8, 0xd9
evex MASK|VVVV, ALL, 0, P66, M0F, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xe1, 0xe2, 0xe3
evex MASK|VVVV, ALL, 0, P66, M0F, 0xe4, 0xe5, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef
evex MASK|VVVV, ALL, 0, P66, M0F, 0xf1, 0xf2, 0xf5, 0xf8, 0xf9, 0xfa, 0xfc, 0xfd, 0xfe
/* VUCOMISD, VCOMISD, VMOVQ */
evex 0, L0, 1, P66, M0F, 0x2e, 0x2f, 0x6e
/* VMOVUPD, VMOVAPD, VSQRTPD, VCVTPD2PS, VMOVDQA64, VCVTTPD2UQQ, VCVTPD2UQQ, VCVTTPD2QQ,
 * VCVTPD2QQ, VCVTTPD2DQ */
evex MASK, ALL, 1, P66, M0F, 0x10, 0x28, 0x51, 0x5a, 0x6f, 0x78, 0x79, 0x7a, 0x7b, 0xe6
/* VUNPCKLPD, VUNPCKHPD, VANDPD, VANDNPD, VORPD, VXORPD, VADDPD, VMULPD, VSUBPD, VMINPD, VDIVPD,
 * VMAXPD, VPUNPCKLQDQ, VPUNPCKHQDQ, VPSRLQ, VPADDQ, VPANDQ, VPANDNQ, VPSRAQ, VPORQ, VPXORQ,
 * VPSLLQ, VPMULUDQ, VPSUBQ */
evex MASK|VVVV, ALL, 1, P66, M0F, 0x14, 0x15, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5c, 0x5d
evex MASK|VVVV, ALL, 1, P66, M0F, 0x5e, 0x5f, 0x6c, 0x6d, 0xd3, 0xd4, 0xdb, 0xdf, 0xe2, 0xeb
evex MASK|VVVV, ALL, 1, P66, M0F, 0xef, 0xf3, 0xf4, 0xfb
/* VCVTTSS2SI, VCVTSS2SI, VCVTTSS2USI, VCVTSS2USI */
evex 0, L0, 0, PF3, M0F, 0x2c, 0x2d, 0x78, 0x79
/* VCVTSI2SS, VCVTUSI2SS */
evex VVVV, L0, 0, PF3, M0F, 0x2a, 0x7b
/* VMOVSLDUP, VMOVSHDUP, VCVTTPS2DQ, VMOVDQU32, VCVTUDQ2PD, VCVTDQ2PD */
evex MASK, ALL, 0, PF3, M0F, 0x12, 0x16, 0x5b, 0x6f, 0x7a, 0xe6
/* VMOVSS, VSQRTSS, VADDSS, VMULSS, VCVTSS2SD, VSUBSS, VMINSS, VDIVSS, VMAXSS */
evex MASK|VVVV, L0, 0, PF3, M0F, 0x10, 0x51, 0x58, 0x59, 0x5a, 0x5c, 0x5d, 0x5e, 0x5f
/* VCVTTSS2SI, VCVTSS2SI, VCVTTSS2USI, VCVTSS2USI, VMOVQ */
evex 0, L0, 1, PF3, M0F, 0x2c, 0x2d, 0x78, 0x79, 0x7e
/* VCVTSI2SS, VCVTUSI2SS */
evex VVVV, L0, 1, PF3, M0F, 0x2a, 0x7b
/* VMOVDQU64, VCVTUQQ2PD, VCVTQQ2PD */
evex MASK, ALL, 1, PF3, M0F, 0x6f, 0x7a, 0xe6
/* VCVTTSD2SI, VCVTSD2SI, VCVTTSD2USI, VCVTSD2USI */
evex 0, L0, 0, PF2, M0F, 0x2c, 0x2d, 0x78, 0x79
/* VCVTSI2SD, VCVTUSI2SD */
evex VVVV, L0, 0, PF2, M0F, 0x2a, 0x7b
/* VMOVDQU8, VCVTUDQ2PS */
evex MASK, ALL, 0, PF2, M0F, 0x6f, 0x7a
/* VCVTTSD2SI, VCVTSD2SI, VCVTTSD2USI, VCVTSD2USI */
evex 0, L0, 1, PF2, M0F, 0x2c, 0x2d, 0x78, 0x79
/* VCVTSI2SD, VCVTUSI2SD */
evex VVVV, L0, 1, PF2, M0F, 0x2a, 0x7b
/* VMOVDDUP, VMOVDQU16, VCVTUQQ2PS, VCVTPD2DQ */
evex MASK, ALL, 1, PF2, M0F, 0x12, 0x6f, 0x7a, 0xe6
/* VMOVSD, VSQRTSD, VADDSD, VMULSD, VCVTSD2SS, VSUBSD, VMINSD, VDIVSD, VMAXSD */
evex MASK|VVVV, L0, 1, PF2, M0F, 0x10, 0x51, 0x58, 0x59, 0x5a, 0x5c, 0x5d, 0x5e, 0x5f
/* VCMPPS, VSHUFPS */
evex IMM|MASK|VVVV, ALL, 0, NP, M0F, 0xc2, 0xc6
/* VPEXTRW */
evex IMM, L0, 0, P66, M0F, 0xc5
/* VPINSRW */
evex IMM|VVVV, L0, 0, P66, M0F, 0xc4
/* VPSHUFD */
evex IMM|MASK, ALL, 0, P66, M0F, 0x70
/* VCMPPD, VSHUFPD */
evex IMM|MASK|VVVV, ALL, 1, P66, M0F, 0xc2, 0xc6
/* VPSHUFHW */
evex IMM|MASK, ALL, 0, PF3, M0F, 0x70
/* VCMPSS */
evex IMM|MASK|VVVV, L0, 0, PF3, M0F, 0xc2
/* VPSHUFLW */
evex IMM|MASK, ALL, 0, PF2, M0F, 0x70
/* VCMPSD */
evex IMM|MASK|VVVV, L0, 1, PF2, M0F, 0xc2
/* VAESENC, VAESENCLAST, VAESDEC, VAESDECLAST */
evex VVVV, ALL, 0, P66, M38, 0xdc, 0xdd, 0xde, 0xdf
/* VCVTPH2PS, VBROADCASTSS, VPABSB, VPABSW, VPABSD, VPMOVSXBW, VPMOVSXBD, VPMOVSXBQ, VPMOVSXWD,
 * VPMOVSXWQ, VPMOVSXDQ, VPMOVZXBW, VPMOVZXBD, VPMOVZXBQ, VPMOVZXWD, VPMOVZXWQ, VPMOVZXDQ,
 * VGETEXPPS, VPLZCNTD, VRCP14PS, VRSQRT14PS, VPOPCNTB, VPOPCNTD, VPBROADCASTD, VBROADCASTI32X2,
 * VPEXPANDB, VPBROADCASTB, VPBROADCASTW, VEXPANDPS, VPEXPANDD, VPCONFLICTD */
evex MASK, ALL, 0, P66, M38, 0x13, 0x18, 0x1c, 0x1d, 0x1e, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25
evex MASK, ALL, 0, P66, M38, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x42, 0x44, 0x4c, 0x4e, 0x54
evex MASK, ALL, 0, P66, M38, 0x55, 0x58, 0x59, 0x62, 0x78, 0x79, 0x7a, 0x7b, 0x7c, 0x88, 0x89
evex MASK, ALL, 0, P66, M38, 0xc4
/* VBROADCASTF32X2 */
evex MASK, L12, 0, P66, M38, 0x19
/* VSCALEFSS, VGETEXPSS, VRCP14SS, VRSQRT14SS, VFMADD132SS, VFMSUB132SS, VFNMADD132SS,
 * VFNMSUB132SS, VFMADD213SS, VFMSUB213SS, VFNMADD213SS, VFNMSUB213SS, VFMADD231SS, VFMSUB231SS,
 * VFNMADD231SS, VFNMSUB231SS */
evex MASK|VVVV, L0, 0, P66, M38, 0x2d, 0x43, 0x4d, 0x4f, 0x99, 0x9b, 0x9d, 0x9f, 0xa9, 0xab
evex MASK|VVVV, L0, 0, P66, M38, 0xad, 0xaf, 0xb9, 0xbb, 0xbd, 0xbf
/* VPSHUFB, VPMADDUBSW, VPMULHRSW, VPERMILPS, VPRORVD, VPROLVD, VPTESTMB, VPTESTMD, VPACKUSDW,
 * VSCALEFPS, VPMINSB, VPMINSD, VPMINUW, VPMINUD, VPMAXSB, VPMAXSD, VPMAXUW, VPMAXUD, VPMULLD,
 * VPSRLVD, VPSRAVD, VPSLLVD, VPDPBUSD, VPDPBUSDS, VPDPWSSD, VPDPWSSDS, VPBLENDMD, VBLENDMPS,
 * VPBLENDMB, VPSHLDVD, VPSHRDVD, VPERMI2B, VPERMI2D, VPERMI2PS, VPERMT2B, VPERMT2D, VPERMT2PS,
 * VPERMB, VPSHUFBITQMB, VFMADDSUB132PS, VFMSUBADD132PS, VFMADD132PS, VFMSUB132PS, VFNMADD132PS,
 * VFNMSUB132PS, VFMADDSUB213PS, VFMSUBADD213PS, VFMADD213PS, VFMSUB213PS, VFNMADD213PS,
 * VFNMSUB213PS, VFMADDSUB231PS, VFMSUBADD231PS, VFMADD231PS, VFMSUB231PS, VFNMADD231PS,
 * VFNMSUB231PS, VGF2P8MULB */
evex MASK|VVVV, ALL, 0, P66, M38, 0x00, 0x04, 0x0b, 0x0c, 0x14, 0x15, 0x26, 0x27, 0x2b, 0x2c
evex MASK|VVVV, ALL, 0, P66, M38, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x45
evex MASK|VVVV, ALL, 0, P66, M38, 0x46, 0x47, 0x50, 0x51, 0x52, 0x53, 0x64, 0x65, 0x66, 0x71
evex MASK|VVVV, ALL, 0, P66, M38, 0x73, 0x75, 0x76, 0x77, 0x7d, 0x7e, 0x7f, 0x8d, 0x8f, 0x96
evex MASK|VVVV, ALL, 0, P66, M38, 0x97, 0x98, 0x9a, 0x9c, 0x9e, 0xa6, 0xa7, 0xa8, 0xaa, 0xac
evex MASK|VVVV, ALL, 0, P66, M38, 0xae, 0xb6, 0xb7, 0xb8, 0xba, 0xbc, 0xbe, 0xcf
/* VPERMPS, VPERMD */
evex MASK|VVVV, L12, 0, P66, M38, 0x16, 0x36
/* VPABSQ, VGETEXPPD, VPLZCNTQ, VRCP14PD, VRSQRT14PD, VPOPCNTW, VPOPCNTQ, VPBROADCASTQ,
 * VPEXPANDW, VEXPANDPD, VPEXPANDQ, VPCONFLICTQ */
evex MASK, ALL, 1, P66, M38, 0x1f, 0x42, 0x44, 0x4c, 0x4e, 0x54, 0x55, 0x59, 0x62, 0x7c, 0x88
evex MASK, ALL, 1, P66, M38, 0x89, 0xc4
/* VBROADCASTSD */
evex MASK, L12, 1, P66, M38, 0x19
/* VSCALEFSD, VGETEXPSD, VRCP14SD, VRSQRT14SD, VFMADD132SD, VFMSUB132SD, VFNMADD132SD,
 * VFNMSUB132SD, VFMADD213SD, VFMSUB213SD, VFNMADD213SD, VFNMSUB213SD, VFMADD231SD, VFMSUB231SD,
 * VFNMADD231SD, VFNMSUB231SD */
evex MASK|VVVV, L0, 1, P66, M38, 0x2d, 0x43, 0x4d, 0x4f, 0x99, 0x9b, 0x9d, 0x9f, 0xa9, 0xab
evex MASK|VVVV, L0, 1, P66, M38, 0xad, 0xaf, 0xb9, 0xbb, 0xbd, 0xbf
/* VPERMILPD, VPSRLVW, VPSRAVW, VPSLLVW, VPRORVQ, VPROLVQ, VPTESTMW, VPTESTMQ, VPMULDQ,
 * VPCMPEQQ, VSCALEFPD, VPCMPGTQ, VPMINSQ, VPMINUQ, VPMAXSQ, VPMAXUQ, VPMULLQ, VPSRLVQ, VPSRAVQ,
 * VPSLLVQ, VPBLENDMQ, VBLENDMPD, VPBLENDMW, VPSHLDVW, VPSHLDVQ, VPSHRDVW, VPSHRDVQ, VPERMI2W,
 * VPERMI2Q, VPERMI2PD, VPERMT2W, VPERMT2Q, VPERMT2PD, VPMULTISHIFTQB, VPERMW, VFMADDSUB132PD,
 * VFMSUBADD132PD, VFMADD132PD, VFMSUB132PD, VFNMADD132PD, VFNMSUB132PD, VFMADDSUB213PD,
 * VFMSUBADD213PD, VFMADD213PD, VFMSUB213PD, VFNMADD213PD, VFNMSUB213PD, VPMADD52LUQ,
 * VPMADD52HUQ, VFMADDSUB231PD, VFMSUBADD231PD, VFMADD231PD, VFMSUB231PD, VFNMADD231PD,
 * VFNMSUB231PD */
evex MASK|VVVV, ALL, 1, P66, M38, 0x0d, 0x10, 0x11, 0x12, 0x14, 0x15, 0x26, 0x27, 0x28, 0x29
evex MASK|VVVV, ALL, 1, P66, M38, 0x2c, 0x37, 0x39, 0x3b, 0x3d, 0x3f, 0x40, 0x45, 0x46, 0x47
evex MASK|VVVV, ALL, 1, P66, M38, 0x64, 0x65, 0x66, 0x70, 0x71, 0x72, 0x73, 0x75, 0x76, 0x77
evex MASK|VVVV, ALL, 1, P66, M38, 0x7d, 0x7e, 0x7f, 0x83, 0x8d, 0x96, 0x97, 0x98, 0x9a, 0x9c
evex MASK|VVVV, ALL, 1, P66, M38, 0x9e, 0xa6, 0xa7, 0xa8, 0xaa, 0xac, 0xae, 0xb4, 0xb5, 0xb6
evex MASK|VVVV, ALL, 1, P66, M38, 0xb7, 0xb8, 0xba, 0xbc, 0xbe
/* VPERMPD, VPERMQ */
evex MASK|VVVV, L12, 1, P66, M38, 0x16, 0x36
/* VPMOVM2B, VPMOVB2M, VPMOVM2D, VPMOVD2M, VPBROADCASTMW2D */
evex 0, ALL, 0, PF3, M38, 0x28, 0x29, 0x38, 0x39, 0x3a
/* VCVTNEPS2BF16 */
evex MASK, ALL, 0, PF3, M38, 0x72
/* VPTESTNMB, VPTESTNMD, VDPBF16PS */
evex MASK|VVVV, ALL, 0, PF3, M38, 0x26, 0x27, 0x52
/* VPMOVM2W, VPMOVW2M, VPBROADCASTMB2Q, VPMOVM2Q, VPMOVQ2M */
evex 0, ALL, 1, PF3, M38, 0x28, 0x29, 0x2a, 0x38, 0x39
/* VPTESTNMW, VPTESTNMQ */
evex MASK|VVVV, ALL, 1, PF3, M38, 0x26, 0x27
/* VCVTNE2PS2BF16 */
evex MASK|VVVV, ALL, 0, PF2, M38, 0x72
/* VPINSRB, VINSERTPS, VPINSRD */
evex IMM|VVVV, L0, 0, P66, M3A, 0x20, 0x21, 0x22
/* VPCLMULQDQ */
evex IMM|VVVV, ALL, 0, P66, M3A, 0x44
/* VFPCLASSSS */
evex IMM|MASK, L0, 0, P66, M3A, 0x67
/* VPERMILPS, VRNDSCALEPS, VGETMANTPS, VREDUCEPS, VFPCLASSPS */
evex IMM|MASK, ALL, 0, P66, M3A, 0x04, 0x08, 0x26, 0x56, 0x66
/* VRNDSCALESS, VGETMANTSS, VRANGESS, VFIXUPIMMSS, VREDUCESS */
evex IMM|MASK|VVVV, L0, 0, P66, M3A, 0x0a, 0x27, 0x51, 0x55, 0x57
/* VALIGND, VPALIGNR, VPCMPUD, VPCMPD, VPTERNLOGD, VPCMPUB, VPCMPB, VDBPSADBW, VRANGEPS,
 * VFIXUPIMMPS, VPSHLDD, VPSHRDD */
evex IMM|MASK|VVVV, ALL, 0, P66, M3A, 0x03, 0x0f, 0x1e, 0x1f, 0x25, 0x3e, 0x3f, 0x42, 0x50, 0x54
evex IMM|MASK|VVVV, ALL, 0, P66, M3A, 0x71, 0x73
/* VINSERTF32X4, VSHUFF32X4, VINSERTI32X4, VSHUFI32X4 */
evex IMM|MASK|VVVV, L12, 0, P66, M3A, 0x18, 0x23, 0x38, 0x43
/* VINSERTF32X8, VINSERTI32X8 */
evex IMM|MASK|VVVV, L2, 0, P66, M3A, 0x1a, 0x3a
/* VPINSRQ */
evex IMM|VVVV, L0, 1, P66, M3A, 0x22
/* VFPCLASSSD */
evex IMM|MASK, L0, 1, P66, M3A, 0x67
/* VPERMILPD, VRNDSCALEPD, VGETMANTPD, VREDUCEPD, VFPCLASSPD */
evex IMM|MASK, ALL, 1, P66, M3A, 0x05, 0x09, 0x26, 0x56, 0x66
/* VPERMQ, VPERMPD */
evex IMM|MASK, L12, 1, P66, M3A, 0x00, 0x01
/* VRNDSCALESD, VGETMANTSD, VRANGESD, VFIXUPIMMSD, VREDUCESD */
evex IMM|MASK|VVVV, L0, 1, P66, M3A, 0x0b, 0x27, 0x51, 0x55, 0x57
/* VALIGNQ, VPCMPUQ, VPCMPQ, VPTERNLOGQ, VPCMPUW, VPCMPW, VRANGEPD, VFIXUPIMMPD, VPSHLDW,
 * VPSHLDQ, VPSHRDW, VPSHRDQ, VGF2P8AFFINEQB, VGF2P8AFFINEINVQB */
evex IMM|MASK|VVVV, ALL, 1, P66, M3A, 0x03, 0x1e, 0x1f, 0x25, 0x3e, 0x3f, 0x50, 0x54, 0x70, 0x71
evex IMM|MASK|VVVV, ALL, 1, P66, M3A, 0x72, 0x73, 0xce, 0xcf
/* VINSERTF64X2, VSHUFF64X2, VINSERTI64X2, VSHUFI64X2 */
evex IMM|MASK|VVVV, L12, 1, P66, M3A, 0x18, 0x23, 0x38, 0x43
/* VINSERTF64X4, VINSERTI64X4 */
evex IMM|MASK|VVVV, L2, 1, P66, M3A, 0x1a, 0x3a
/* VMOVUPS, VMOVAPS */
store MASK, ALL, 0, NP, M0F, 0x11, 0x29
/* VMOVD */
store 0, L0, 0, P66, M0F, 0x7e
/* VMOVDQA32 */
store MASK, ALL, 0, P66, M0F, 0x7f
/* VMOVQ */
store 0, L0, 1, P66, M0F, 0x7e, 0xd6
/* VMOVUPD, VMOVAPD, VMOVDQA64 */
store MASK, ALL, 1, P66, M0F, 0x11, 0x29, 0x7f
/* VMOVDQU32 */
store MASK, ALL, 0, PF3, M0F, 0x7f
/* VMOVSS */
store MASK|VVVV, L0, 0, PF3, M0F, 0x11
/* VMOVDQU64 */
store MASK, ALL, 1, PF3, M0F, 0x7f
/* VMOVDQU8 */
store MASK, ALL, 0, PF2, M0F, 0x7f
/* VMOVDQU16 */
store MASK, ALL, 1, PF2, M0F, 0x7f
/* VMOVSD */
store MASK|VVVV, L0, 1, PF2, M0F, 0x11
/* VPCOMPRESSB, VCOMPRESSPS, VPCOMPRESSD */
store MASK, ALL, 0, P66, M38, 0x63, 0x8a, 0x8b
/* VPCOMPRESSW, VCOMPRESSPD, VPCOMPRESSQ */
store MASK, ALL, 1, P66, M38, 0x63, 0x8a, 0x8b
/* VPMOVUSWB, VPMOVUSDB, VPMOVUSQB, VPMOVUSDW, VPMOVUSQW, VPMOVUSQD, VPMOVSWB, VPMOVSDB,
 * VPMOVSQB, VPMOVSDW, VPMOVSQW, VPMOVSQD, VPMOVWB, VPMOVDB, VPMOVQB, VPMOVDW, VPMOVQW, VPMOVQD */
store MASK, ALL, 0, PF3, M38, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x20, 0x21, 0x22, 0x23, 0x24
store MASK, ALL, 0, PF3, M38, 0x25, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35
/* VPEXTRB, VPEXTRW, VPEXTRD, VEXTRACTPS */
store IMM, L0, 0, P66, M3A, 0x14, 0x15, 0x16, 0x17
/* VCVTPS2PH */
store IMM|MASK, ALL, 0, P66, M3A, 0x1d
/* VEXTRACTF32X4, VEXTRACTI32X4 */
store IMM|MASK, L12, 0, P66, M3A, 0x19, 0x39
/* VEXTRACTF32X8, VEXTRACTI32X8 */
store IMM|MASK, L2, 0, P66, M3A, 0x1b, 0x3b
/* VPEXTRQ */
store IMM, L0, 1, P66, M3A, 0x16
/* VEXTRACTF64X2, VEXTRACTI64X2 */
store IMM|MASK, L12, 1, P66, M3A, 0x19, 0x39
/* VEXTRACTF64X4, VEXTRACTI64X4 */
store IMM|MASK, L2, 1, P66, M3A, 0x1b, 0x3b
/* VPSRLDQ, VPSLLDQ */
group 0, ALL, 0, 0x73, 3
group 0, ALL, 0, 0x73, 7
/* VPSRLW, VPSRAW, VPSLLW, VPRORD, VPROLD, VPSRLD, VPSRAD, VPSLLD */
group MASK, ALL, 0, 0x71, 2
group MASK, ALL, 0, 0x71, 4
group MASK, ALL, 0, 0x71, 6
group MASK, ALL, 0, 0x72, 0
group MASK, ALL, 0, 0x72, 1
group MASK, ALL, 0, 0x72, 2
group MASK, ALL, 0, 0x72, 4
group MASK, ALL, 0, 0x72, 6
/* VPRORQ, VPROLQ, VPSRAQ, VPSRLQ, VPSLLQ */
group MASK, ALL, 1, 0x72, 0
group MASK, ALL, 1, 0x72, 1
group MASK, ALL, 1, 0x72, 4
group MASK, ALL, 1, 0x73, 2
group MASK, ALL, 1, 0x73, 6

.balign 8, 0xcc
evex_stubs_end:

.section .rodata.evex_entries, "a"
evex_entries_end:

/* ---- calling a stub from C; evex.h ---- */

.text
/* rdi struct evex_operands, rsi stub */
function evex_run
    vmovdqu64 (%rdi), %zmm0
    vmovdqu64 64(%rdi), %zmm1
    vmovdqu64 128(%rdi), %zmm2
    kmovq 192(%rdi), %k0
    kmovq 200(%rdi), %k1
    kmovq 208(%rdi), %k2
    mov 216(%rdi), %rax
    mov 224(%rdi), %rdx
    ldmxcsr 240(%rdi)
    call *%rsi
    pushfq
    pop 232(%rdi)
    stmxcsr 240(%rdi)
    ldmxcsr host_mxcsr(%rip)
    vmovdqu64 %zmm0, (%rdi)
    kmovq %k0, 192(%rdi)
    mov %rax, 216(%rdi)
    vzeroupper
    mov $1, %eax
    ret

/* Where the SIGFPE handler goes on after a stub that raised an unmasked exception. */
function evex_trap
    add $8, %rsp
    stmxcsr 240(%rdi)
    ldmxcsr host_mxcsr(%rip)
    vzeroupper
    xor %eax, %eax
    ret

.section .note.GNU-stack, "", @progbits
