#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A user's day in a program, by the Python module of libanima: what day.sh does on the command line."""
import base64
import json
import os
import subprocess

import anima

FOLDER, KEY = os.environ["FOLDER"], os.environ["KEY"]
PATIENCE_MS = 120_000


def define(name):
    definition = anima.Definition.create()
    for key, value in (("name", name), ("memory", "768M"), ("kernel", os.environ["KERNEL"]),
                       ("initrd", os.environ["INITRD"]), ("append", "root=/dev/vda1 console=ttyS0 quiet"),
                       ("engine", os.environ["ENGINE"])):
        definition.set(key, value)
    creation = definition.keep_cloud(json.dumps({"cloud-image": os.environ["IMAGE"], "disk-size": "3G", "user": "me",
                                                 "ssh-key": KEY + ".pub"}))
    while creation.step()[0]:
        pass


def ssh(name, command, **options):
    """libanima knows where; who logs in there is ssh."""
    return subprocess.run(["anima", "ssh", name, "--", "-i", KEY, command], check=True, **options)


def in_guest(machine, *words):
    """Run what ssh brought there."""
    said = json.loads(machine.call("guest.exec", json.dumps({"argv": ["/usr/local/bin/in-guest", *words]}),
                                   timeout_ms=PATIENCE_MS))
    assert said.get("status") == 0, (words, said)
    return base64.b64decode(said["stdout"]).decode().split()


def elsewhere_and_back(machine):
    """From NAT to the switch and back, while the guest fetches pages."""
    came, (mac, changes) = in_guest(machine, "curl"), in_guest(machine, "card")
    machine.change("nic0", ["network=switch=lan", "forward="], False)
    there = in_guest(machine, "curl")
    machine.change("nic0", ["network=user", "forward=tcp:0:22"], False)
    assert in_guest(machine, "curl") == came != there
    mac_now, changes_now = in_guest(machine, "card")
    assert mac_now == mac and int(changes_now) >= int(changes) + 4


def come_and_go(machine):
    """A disk, while the guest writes to the other."""
    for number in range(2):
        machine.attach_device("disk", f"{os.environ['DISK']},id=data,serial=round{number}", False, PATIENCE_MS)
        in_guest(machine, "use", f"round{number}")
        machine.detach_device("data", False, 60)


def stop(machine):
    machine.call("stop", json.dumps({"timeout": 60}))
    assert machine.wait(PATIENCE_MS)[1].cause == "power-off"


def main():
    anima.network_create("lan", ["kind", "nat"])
    define("day")
    machine = anima.Machine.start_named("day")
    with open(os.environ["SCRIPT"], "rb") as script:
        ssh("day", "sudo tee /usr/local/bin/in-guest >/dev/null && sudo chmod +x /usr/local/bin/in-guest", stdin=script)
    in_guest(machine, "begin", os.environ["PORT"])
    elsewhere_and_back(machine)
    come_and_go(machine)
    in_guest(machine, "end")
    ssh("day", "echo kept | sudo tee /etc/kept && sync")
    stop(machine)

    # Elsewhere, under another name.
    package = os.path.join(FOLDER, "day.ova")
    print("not in the package:", json.loads(anima.export("day", package))["lost"])
    print("not out of it:", json.loads(anima.import_(package, ["name=other"], False))["lost"])
    machine = anima.Machine.start_named("other")
    assert ssh("other", "cat /etc/kept", capture_output=True, text=True).stdout == "kept\n"
    stop(machine)
    for name in "day", "other":
        anima.Definition.delete(name)
    anima.network_delete("lan")
    assert json.loads(anima.inventory()) == []


if __name__ == "__main__":
    main()
