// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's board as ACPI 6.3 describes it: the PCI host bridge with its windows and interrupt
 * routing, and the devices behind the LPC bridge. Addresses are those of vmm/machine/pc/layout.h.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "ANIMA ", "ANIMAPC ", 1)
{
    /* 0: the 8259 pair, 1: IOAPIC. Told by the operating system. */
    Name (PICM, 0)
    Method (_PIC, 1)
    {
        PICM = Arg0
    }

    /* Soft off: SLP_TYP 7 in PM1 control. */
    Name (_S5, Package () { 7, 7, 0, 0 })

    Scope (_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_SEG, 0)
            Name (_BBN, 0)

            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 63, 0, 64)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x8000000000, 0xFFFFFFFFFF, 0, 0x8000000000)
            })

            /* Hand PCI Express features over (PCI Firmware 3.2, 4.5.1): all but what has no
               hardware here. Bits: 0 hot-plug, 1 SHPC hot-plug, 2 PME, 3 AER, 4 capability. */
            Method (_OSC, 4, Serialized)
            {
                CreateDWordField (Arg3, 0, STAT)
                CreateDWordField (Arg3, 8, CTRL)
                If (Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    If (Arg1 != 1)
                    {
                        STAT |= 0x08
                    }
                    Local0 = CTRL & 0x15
                    If (CTRL != Local0)
                    {
                        STAT |= 0x10
                    }
                    CTRL = Local0
                }
                Else
                {
                    STAT |= 0x04
                }
                Return (Arg3)
            }

            Device (LPC)
            {
                Name (_ADR, 0x001F0000)

                OperationRegion (PIRQ, PCI_Config, 0x60, 0x0C)
                Field (PIRQ, ByteAcc, NoLock, Preserve)
                {
                    PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8,
                    Offset (0x08),
                    PRQE, 8, PRQF, 8, PRQG, 8, PRQH, 8
                }

                /* What a link may be set to, and forms for its current setting. */
                Name (PRSS, ResourceTemplate ()
                {
                    IRQ (Level, ActiveLow, Shared) { 5, 10, 11 }
                })
                Method (LSTA, 1)
                {
                    If (Arg0 & 0x80)
                    {
                        Return (0x09)
                    }
                    Return (0x0B)
                }
                Method (LCRS, 1, Serialized)
                {
                    Name (BUF0, ResourceTemplate ()
                    {
                        IRQ (Level, ActiveLow, Shared, LIRQ) { 0 }
                    })
                    CreateWordField (BUF0, 1, IRQW)
                    IRQW = 0
                    If (!(Arg0 & 0x80))
                    {
                        IRQW = 1 << (Arg0 & 0x0F)
                    }
                    Return (BUF0)
                }
                Method (LSRS, 1, Serialized)
                {
                    CreateWordField (Arg0, 1, IRQW)
                    FindSetRightBit (IRQW, Local0)
                    If (Local0)
                    {
                        Return (Local0 - 1)
                    }
                    Return (0x80)
                }

                Device (LNKA)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 0)
                    Method (_STA) { Return (LSTA (PRQA)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQA)) }
                    Method (_SRS, 1) { PRQA = LSRS (Arg0) }
                    Method (_DIS) { PRQA = 0x80 }
                }

                Device (LNKB)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 1)
                    Method (_STA) { Return (LSTA (PRQB)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQB)) }
                    Method (_SRS, 1) { PRQB = LSRS (Arg0) }
                    Method (_DIS) { PRQB = 0x80 }
                }

                Device (LNKC)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 2)
                    Method (_STA) { Return (LSTA (PRQC)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQC)) }
                    Method (_SRS, 1) { PRQC = LSRS (Arg0) }
                    Method (_DIS) { PRQC = 0x80 }
                }

                Device (LNKD)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 3)
                    Method (_STA) { Return (LSTA (PRQD)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQD)) }
                    Method (_SRS, 1) { PRQD = LSRS (Arg0) }
                    Method (_DIS) { PRQD = 0x80 }
                }

                Device (LNKE)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 4)
                    Method (_STA) { Return (LSTA (PRQE)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQE)) }
                    Method (_SRS, 1) { PRQE = LSRS (Arg0) }
                    Method (_DIS) { PRQE = 0x80 }
                }

                Device (LNKF)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 5)
                    Method (_STA) { Return (LSTA (PRQF)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQF)) }
                    Method (_SRS, 1) { PRQF = LSRS (Arg0) }
                    Method (_DIS) { PRQF = 0x80 }
                }

                Device (LNKG)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 6)
                    Method (_STA) { Return (LSTA (PRQG)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQG)) }
                    Method (_SRS, 1) { PRQG = LSRS (Arg0) }
                    Method (_DIS) { PRQG = 0x80 }
                }

                Device (LNKH)
                {
                    Name (_HID, EisaId ("PNP0C0F"))
                    Name (_UID, 7)
                    Method (_STA) { Return (LSTA (PRQH)) }
                    Method (_PRS) { Return (PRSS) }
                    Method (_CRS) { Return (LCRS (PRQH)) }
                    Method (_SRS, 1) { PRQH = LSRS (Arg0) }
                    Method (_DIS) { PRQH = 0x80 }
                }

                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x20, 0x20, 0, 2)
                        IO (Decode16, 0xA0, 0xA0, 0, 2)
                        IO (Decode16, 0x4D0, 0x4D0, 0, 2)
                        IRQNoFlags () { 2 }
                    })
                }

                Device (TIMR)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x40, 0x40, 0, 4)
                        IRQNoFlags () { 0 }
                    })
                }

                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x61, 0x61, 0, 1)
                    })
                }

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 0, 2)
                        IRQNoFlags () { 8 }
                    })
                }

                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 0, 1)
                        IO (Decode16, 0x64, 0x64, 0, 1)
                        IRQNoFlags () { 1 }
                    })
                }

                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IRQNoFlags () { 12 }
                    })
                }

                Device (FWCF)
                {
                    Name (_HID, "QEMU0002")
                    Name (_STA, 0x0B)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x510, 0x510, 1, 12)
                    })
                }

                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F8, 0x3F8, 0, 8)
                        IRQNoFlags () { 4 }
                    })
                }

                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2F8, 0x2F8, 0, 8)
                        IRQNoFlags () { 3 }
                    })
                }
            }

            Include ("routing.asl")

            Method (_PRT, 0)
            {
                If (PICM)
                {
                    Return (PRTA)
                }
                Return (PRTP)
            }
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadOnly, 0xFED00000, 0x400)
            })
        }

        /* What the chipset itself decodes, so that nothing else is placed there. */
        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xE0000000, 0x10000000)
                Memory32Fixed (ReadWrite, 0xFEC00000, 0x1000)
                Memory32Fixed (ReadWrite, 0xFEE00000, 0x1000)
                IO (Decode16, 0x92, 0x92, 0, 1)
                IO (Decode16, 0xB2, 0xB2, 0, 2)
                IO (Decode16, 0x600, 0x600, 0, 0x80)
            })
        }
    }
}
