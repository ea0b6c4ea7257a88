// SPDX-License-Identifier: Apache-2.0
/*
 * Every address and interrupt number of the PC, machine version 1 ("anima-1"). Part of the version:
 * a number here never changes, a new machine version gets a new one.
 */
#pragma once

/* ---- guest-physical memory ---- */
#define PC_LOW_RAM_END   0xC0000000UL  /* RAM below 4 GiB ends here at the latest */
#define PC_HIGH_RAM_BASE 0x100000000UL /* the rest of RAM goes on at 4 GiB */
#define PC_VGA_HOLE_BASE 0xA0000UL     /* 128 KiB of video memory */
#define PC_VGA_HOLE_SIZE 0x20000UL
#define PC_BIOS_SHADOW_BASE                                               \
    0xC0000UL /* option ROMs and BIOS, RAM until a PAM register says else \
               */
#define PC_BIOS_SHADOW_END 0x100000UL
#define PC_ECAM_BASE       0xE0000000UL /* PCIe configuration space, 256 buses */
#define PC_ECAM_SIZE       0x10000000UL
/* Buses that ACPI tells of and the window shows at reset: the least that PCIEXBAR can. Linux looks
   for forgotten host bridges by reading 32 devices of each bus through ports, an exit each. */
#define PC_PCI_BUSES   64
#define PC_MMIO32_BASE 0xC0000000UL /* 32-bit window for BARs */
#define PC_MMIO32_END  0xE0000000UL
#define PC_MMIO64_BASE 0x8000000000UL /* 64-bit window for BARs: 512 GiB, 512 GiB long */
#define PC_MMIO64_SIZE 0x8000000000UL
#define PC_IOAPIC_BASE 0xFEC00000UL
#define PC_HPET_BASE   0xFED00000UL
#define PC_LAPIC_BASE  0xFEE00000UL
#define PC_FLASH_END   0x100000000UL /* firmware ends at 4 GiB */

/* ---- where a direct boot puts things (all below 1 MiB are free after boot) ---- */
#define PC_BDA_EBDA_SEGMENT 0x40EUL /* BIOS data area: 16-bit segment of the EBDA */
#define PC_BDA_BASE_MEMORY  0x413UL /* KiB of conventional memory, 16 bits */
#define PC_BOOT_GDT         0x500UL
#define PC_BOOT_PAGE_TABLES 0x9000UL /* identity map of 4 GiB, six pages */
#define PC_BOOT_ZERO_PAGE   0x7000UL /* struct boot_params, or PVH's hvm_start_info */
#define PC_BOOT_STACK       0x8FF0UL
#define PC_BOOT_CMDLINE     0x20000UL
#define PC_BOOT_CMDLINE_MAX 0x10000UL
#define PC_EBDA_BASE        0x9FC00UL /* end of conventional memory */
#define PC_ACPI_RSDP        0xE0000UL /* the BIOS area is searched for it */
#define PC_ACPI_TABLES      0xE1000UL
#define PC_ACPI_TABLES_END  0xF0000UL

/* ---- ports ---- */
#define PC_PORT_PIC_MASTER    0x20
#define PC_PORT_PIC_SLAVE     0xA0
#define PC_PORT_PIC_ELCR      0x4D0
#define PC_PORT_PIT           0x40
#define PC_PORT_SYSTEM_B      0x61 /* speaker gate, timer 2 output, NMI status */
#define PC_PORT_I8042_DATA    0x60
#define PC_PORT_I8042_COMMAND 0x64
#define PC_PORT_RTC           0x70
#define PC_PORT_A20           0x92 /* fast A20 and INIT */
#define PC_PORT_APM           0xB2 /* SMI command and status */
#define PC_PORT_RESET         0xCF9
#define PC_PORT_PCI_ADDRESS   0xCF8
#define PC_PORT_PCI_DATA      0xCFC
#define PC_PORT_FW_CFG        0x510
#define PC_PORT_ACPI_PM       0x600 /* PM base of the ICH9 LPC bridge, 128 ports */
#define PC_PORT_TCO           0x660
#define PC_PORT_DEBUG_EXIT    0xF4
#define PC_PORT_DEBUG_CONSOLE 0xE9
#define PC_PORT_TESTDEV       0xE0
#define PC_PORT_PVPANIC       0x505
#define PC_PORT_SERIAL0       0x3F8
#define PC_PORT_SERIAL1       0x2F8
#define PC_PORT_PCI_IO_BASE   0xC000 /* for I/O BARs, to 0xFFFF */

/* ---- what ACPI's tables say of the power management block at PC_PORT_ACPI_PM ---- */
#define PC_PM_EVENT         0x00 /* PM1a event block: status and enable, 4 bytes */
#define PC_PM_CONTROL       0x04 /* PM1a control block, 2 bytes */
#define PC_PM_TIMER         0x08 /* 4 bytes, 32 bits wide: FADT's TMR_VAL_EXT is set */
#define PC_PM_GPE0          0x20 /* 8 bytes of status, 8 of enables */
#define PC_PM_GPE0_LENGTH   16
#define PC_APM_ACPI_ENABLE  0x02 /* written to PC_PORT_APM: FADT's ACPI_ENABLE */
#define PC_APM_ACPI_DISABLE 0x03
#define PC_SLP_TYP_S1       1 /* SLP_TYPa of the sleep states, as the ICH9 has them */
#define PC_SLP_TYP_S3       5
#define PC_SLP_TYP_S4       6
#define PC_SLP_TYP_S5       7
#define PC_RESET_VALUE      0x06 /* written to PC_PORT_RESET resets: FADT's RESET_VALUE */

/* ---- global system interrupts: ISA numbers 0..15, then IOAPIC pins ---- */
#define PC_GSI_PIT        0 /* IOAPIC pin 2 by an MADT override */
#define PC_GSI_KEYBOARD   1
#define PC_GSI_SERIAL1    3
#define PC_GSI_SERIAL0    4
#define PC_GSI_RTC        8
#define PC_GSI_SCI        9 /* level, active high */
#define PC_GSI_MOUSE      12
#define PC_GSI_PCI_BASE   16 /* PIRQ A..H are 16..23 */
#define PC_IOAPIC_PINS    24
#define PC_IOAPIC_PIT_PIN 2

/* ---- what ACPI's tables say of other devices ---- */
#define PC_CMOS_CENTURY  0x32 /* FADT's CENTURY */
#define PC_HPET_MIN_TICK 100  /* ticks that a periodic comparator needs at least */

/* ---- PCI functions of bus 0 (device, function) ---- */
#define PC_PCI_HOST_BRIDGE 0x00, 0
#define PC_PCI_VIDEO       0x02
/* User devices, where the machine's definition has them, up to the root ports. */
#define PC_PCI_USER_DEVICES 0x03
#define PC_PCI_ROOT_PORTS   0x1C /* 0x1C and 0x1D, functions 0..3 each: eight hot-plug root ports */
#define PC_ROOT_PORTS       8
#define PC_PCI_LPC_BRIDGE   0x1F, 0
#define PC_PCI_AHCI         0x1F, 2
