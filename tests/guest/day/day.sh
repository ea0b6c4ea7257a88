#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A user's day on the command line: a machine out of a cloud's image, another network and a further
# disk while it works, and a copy of it elsewhere. IMAGE, KERNEL, INITRD, KEY, PORT, DISK, FOLDER
# and SCRIPT are given.
set -eux

anima network create lan --kind nat
anima create day --cloud-image "$IMAGE" --disk-size 3G --user me --ssh-key "$KEY.pub" --memory 768M \
    --kernel "$KERNEL" --initrd "$INITRD" --append "root=/dev/vda1 console=ttyS0 quiet"
anima start day
anima ssh day -- -i "$KEY" 'sudo tee /usr/local/bin/in-guest >/dev/null && sudo chmod +x /usr/local/bin/in-guest' \
    <"$SCRIPT"
in_guest() {
    anima guest day exec -- /usr/local/bin/in-guest "$@"
}
in_guest begin "$PORT"
first=$(in_guest curl)
card=$(in_guest card)

# From NAT to the switch and back, while it fetches pages. Its address is another one there.
anima change day nic0 network=switch=lan forward=
second=$(in_guest curl)
anima change day nic0 network=user forward=tcp:0:22
third=$(in_guest curl)
[ "$first" = "$third" ] && [ "$first" != "$second" ]
[ "${card% *}" = "$(in_guest card | cut -d ' ' -f 1)" ]
[ "$(in_guest card | cut -d ' ' -f 2)" -ge $((${card#* } + 4)) ]

# A disk comes and goes while it writes to the other.
for round in 1 2; do
    anima attach day disk "$DISK,id=data,serial=round$round"
    in_guest use round$round
    anima detach day data
done
in_guest end
anima ssh day -- -i "$KEY" 'echo kept | sudo tee /etc/kept && sync'
anima stop day --wait

# Elsewhere, under another name.
anima export day "$FOLDER/day.ova"
anima import "$FOLDER/day.ova" --name other
anima start other
[ "$(anima ssh other -- -i "$KEY" cat /etc/kept)" = kept ]
anima stop other --wait
anima delete --yes day
anima delete --yes other
anima network delete --yes lan
[ "$(anima list --json)" = "[]" ]
