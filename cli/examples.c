// SPDX-License-Identifier: Apache-2.0
/*
 * What people do with each command. tests/cli/test_manual.py runs every line, in a folder that has
 * the files that are named.
 */
#include "cli/examples.h"

#include <stddef.h>

const struct example examples[] = {
    {"run", "Boot a kernel with an initial RAM disk, on this terminal",
     "anima run --kernel vmlinuz --initrd initrd.img --append console=ttyS0"},
    {"run", "With two disks, one of which is only read, and a network",
     "anima run --kernel vmlinuz --initrd initrd.img --append \"console=ttyS0 root=/dev/vda\" "
     "--disk root.img,serial=ROOT --disk data.img,readonly --nic user"},
    {"run", "Boot a machine that is kept, with more memory this time", "anima run web --memory 1G"},
    {"run", "Go on from a saved state", "anima run --state web.state"},
    {"create", "Keep a machine, with what its guest wants",
     "anima create db --os debian12 --kernel vmlinuz --initrd initrd.img --disk data.img "
     "--nic user,forward=tcp:0:22"},
    {"create", "Keep one that a file describes, under another name",
     "anima create other vm.yaml --memory 256M"},
    {"create", "Make a machine of an image for clouds, into which a key of ssh lets one",
     "anima create cloud --cloud-image cloud.img --user me --ssh-key id.pub --kernel vmlinuz "
     "--initrd initrd.img --append \"root=/dev/vda1 console=ttyS0\""},
    {"import", "Keep a machine of libvirt's", "anima import guest.xml --kernel vmlinuz"},
    {"start", "Start two machines in the background", "anima start web mail"},
    {"start", "Start those that start with the host", "anima start --autostart"},
    {"edit", "Change options, and add a disk to those that there are",
     "anima edit web memory=256M disk+=data.img,readonly"},
    {"edit", "Take a disk away, and an option back to its default",
     "anima edit web disk-=root.img append="},
    {"show", "Show a definition with the defaults of what it does not say", "anima show web --all"},
    {"list", "List all machines", "anima list"},
    {"list", "Do something with each that runs",
     "for name in $(anima list --running --names); do anima query \"$name\"; done"},
    {"delete", "Remove a machine with its folder, without a question", "anima delete web --yes"},
    {"query", "See how a machine is", "anima query web"},
    {"console", "See and use its serial line; Ctrl-] leaves", "anima console web"},
    {"ssh", "Log in, once the guest is up", "anima ssh web"},
    {"ssh", "Run a command in the guest", "anima ssh web -- uname -r"},
    {"ssh", "Let other programs of ssh in: scp -F web.conf index.html web:",
     "anima ssh web --config >web.conf"},
    {"guest", "Ask a guest for its addresses", "anima guest web addresses"},
    {"guest", "Run a command in a guest", "anima guest web exec -- uname -r"},
    {"guest", "Copy a disk whose file systems are whole",
     "anima guest web freeze && cp root.img copy.img; anima guest web thaw"},
    {"events", "Print what happens to a machine up to its end", "anima events web"},
    {"top", "See once what machines take of this host", "anima top --once"},
    {"metrics", "Give a collector what is counted of all machines", "anima metrics --prometheus"},
    {"pause", "Let a machine stand still", "anima pause web"},
    {"resume", "Let it go on", "anima resume web"},
    {"reset", "Press its reset button", "anima reset web"},
    {"nmi", "Have a guest that hangs tell what it does", "anima nmi web"},
    {"stop", "Shut a guest down, and kill it when that takes longer than a minute",
     "anima stop web --timeout 60"},
    {"kill", "End a machine at once", "anima kill web"},
    {"upgrade", "Replace the VMM of every running machine by the installed one",
     "anima upgrade --all"},
    {"doctor", "Examine this host, and tell how to mend it", "anima doctor"},
    {"state", "Save a machine's state, and look at it",
     "anima state save web web.new && anima state dump web.new"},
    {"network", "Make a network with NAT, DHCP and DNS, and lead a port of the host into it",
     "anima network create lan --subnet 10.99.1.0/24 --forward tcp:8080:web:80"},
    {"network", "Make one, and let its packets be larger",
     "anima network create lab && anima network edit lab mtu=9000"},
    {"network", "List networks and who is on them", "anima network list"},
    {"completion", "Complete words in this shell", "source <(anima completion bash)"},
    {"version", "See what this build and this host offer", "anima version --features"},
    {"help", "Explain a command", "anima help create"},
    {NULL},
};
