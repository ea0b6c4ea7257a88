#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""machines.py KERNEL: start two machines, pause one, and wait for the events of both in one loop
until both were killed."""
import json
import select
import sys

import anima


def start(name, kernel):
    definition = anima.Definition.create()
    for key, value in (("name", name), ("kernel", kernel), ("memory", "64M"), ("serial", "none")):
        definition.set(key, value)
    return anima.Machine.start(definition)


def events(machine):
    """Those that have come; the connection closes after the last one."""
    while text := machine.event(0):
        event = json.loads(text)
        yield event
        if event["type"] == "ended":
            return


def main():
    machines = {}
    poll = select.poll()
    for name in "first", "second":
        machine = start(name, sys.argv[1])
        machines[machine.fd()] = (name, machine)
        poll.register(machine.fd(), select.POLLIN)
    (_, first), (_, second) = machines.values()
    first.call("pause")
    print("first is", json.loads(first.call("query"))["state"])
    try:
        first.call("stop", json.dumps({"timeout": "soon"}))
    except anima.Error as error:
        print(error.code.name, error)
    calls = [first.begin("kill"), second.begin("kill")]
    while machines:
        for fd, _ in poll.poll():
            name, machine = machines[fd]
            for event in events(machine):
                print(name, event["type"])
                if event["type"] == "ended":
                    poll.unregister(fd)
                    del machines[fd]
    print(all(call.result() for call in calls))


if __name__ == "__main__":
    main()
