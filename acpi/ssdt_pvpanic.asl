// SPDX-License-Identifier: Apache-2.0
/* The pvpanic port, on machines that have one: a guest writes its panic there. */
DefinitionBlock ("ssdt_pvpanic.aml", "SSDT", 2, "ANIMA ", "PVPANIC ", 1)
{
    External (\_SB.PCI0.LPC, DeviceObj)

    Scope (\_SB.PCI0.LPC)
    {
        Device (PEVT)
        {
            Name (_HID, "QEMU0001")
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x505, 0x505, 1, 1)
            })
            OperationRegion (PEOR, SystemIO, 0x505, 1)
            Field (PEOR, ByteAcc, NoLock, Preserve)
            {
                PEPT, 8
            }
            Method (RDPT)
            {
                Return (PEPT)
            }
            Method (WRPT, 1)
            {
                PEPT = Arg0
            }
        }
    }
}
