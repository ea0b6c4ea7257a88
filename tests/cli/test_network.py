#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""anima network: definitions of networks, and what is refused."""
import ipaddress
import json
import os
import unittest

from anima_test import PAYLOAD, AnimaTest


class Network(AnimaTest):
    def refused(self, status, message, *words):
        result = self.anima(*words)
        self.assertEqual((result.returncode, result.stderr), (status, f"anima: {message}\n"), words)

    def shown(self, name):
        return json.loads(self.good("network", "show", name, "--json"))

    def text(self, name):
        with open(os.path.join(self.data, "networks", name, "network.yaml"), encoding="utf-8") as file:
            return file.read()

    def test_a_network_is_a_folder(self):
        self.good("network", "create", "lan", "--kind", "internal")
        self.assertEqual(self.text("lan"), "kind: internal\n")
        self.assertEqual(os.listdir(self.data), ["networks"])
        self.assertEqual(self.shown("lan")["state"], "off")
        self.assertEqual(self.good("list", "--names"), "")

    def test_each_nat_network_has_a_subnet_of_its_own(self):
        for name in "a", "b", "c":
            self.good("network", "create", name)
        networks = json.loads(self.good("network", "list", "--json"))
        subnets = [ipaddress.ip_network(network["subnet"]) for network in networks]
        self.assertEqual([network["name"] for network in networks], ["a", "b", "c"])
        self.assertFalse(any(one.overlaps(other) for one in subnets for other in subnets if one != other))
        self.assertEqual(len(set(subnets)), 3)
        # It is written down, so that it is the same tomorrow.
        self.assertIn(f"subnet: {subnets[0]}\n", self.text("a"))

    def test_the_list_has_names_too(self):
        self.good("network", "create", "b", "--kind", "internal")
        self.good("network", "create", "a", "--kind", "bridge", "--interface", "br0")
        self.assertEqual(self.good("network", "list", "--names"), "a\nb\n")
        self.assertRegex(self.good("network", "list"), r"a +off +bridge +br0 ")

    def test_a_machine_finds_the_network_that_is_kept(self):
        """Another one of that name has ended but for a moment."""
        self.addCleanup(self.anima, "kill", "web")
        self.good("create", "web", "--kernel", PAYLOAD, "--memory", "64M", "--engine", "soft", "--nic", "switch=lan")
        for subnet in "10.99.1.0/24", "10.99.2.0/24":
            self.good("network", "create", "lan", "--subnet", subnet)
            self.good("start", "web")
            address = self.shown("lan")["ports"][0]["address"]
            self.assertIn(ipaddress.ip_address(address), ipaddress.ip_network(subnet))
            self.good("kill", "web")
            self.good("network", "delete", "lan", "--yes")

    def test_an_edit_leaves_the_rest_as_it_is(self):
        self.good("network", "create", "lan", "--subnet", "10.99.1.0/24")
        with open(os.path.join(self.data, "networks", "lan", "network.yaml"), "a", encoding="utf-8") as file:
            file.write("# ours\n")
        self.good("network", "edit", "lan", "mtu=1400", "forward+=tcp:8080:web:80")
        self.assertEqual(self.text("lan"),
                         "subnet: 10.99.1.0/24\n# ours\nmtu: 1400\nforward:\n- tcp:8080:web:80\n")
        self.refused(2, "subnet: a network of kind nat has one", "network", "edit", "lan", "subnet=")
        self.assertIn("mtu: 1400", self.text("lan"))

    def test_forwards_of_what_does_not_run_are_kept(self):
        self.good("network", "create", "lan", "--subnet", "10.99.1.0/24")
        self.good("network", "forward", "lan", "add", "tcp:8080:web:80")
        self.assertEqual(self.shown("lan")["forward"], ["tcp:8080:web:80"])
        self.refused(1, "lan: the network does not run",
                     "network", "forward", "lan", "add", "tcp:8081:web:80", "--temporary")
        self.good("network", "forward", "lan", "remove", "tcp:8080:web:80")
        self.refused(1, "lan: there is no such forward",
                     "network", "forward", "lan", "remove", "tcp:8080:web:80")
        self.assertNotIn("forward", self.text("lan"))

    def test_what_is_wrong_is_told(self):
        self.good("network", "create", "lan", "--kind", "internal")
        here = os.path.join(self.data, "networks")
        for status, message, words in (
                (2, "usage: anima network create NAME [options]", ["create"]),
                (2, "usage: anima network create|list|show|edit|delete|forward [NAME] ...", ["make", "x"]),
                (2, "usage: anima network forward NAME add|remove FORWARD [--temporary]", ["forward", "lan", "put", "x"]),
                (2, "--kind: only 'anima network create' takes this option", ["list", "--kind", "nat"]),
                (2, "kind: 'nad' is none of internal, nat, bridge; did you mean 'nat'?", ["create", "x", "--kind", "nad"]),
                (2, "name: expected a name of up to 64 letters, digits, '-', '_' and '.', not '../x'", ["create", "../x", "--kind", "internal"]),
                (2, "interface: which bridge is it?", ["create", "x", "--kind", "bridge"]),
                (2, "forward: only a network of kind nat forwards ports", ["create", "x", "--kind", "internal", "--forward", "tcp:1:a:2"]),
                (1, f"lan: a network of this name is there already ({here}/lan); choose another name", ["create", "lan"]),
                (1, f"x: no network of this name is defined (in {here})", ["show", "x"]),
                (1, f"x: no network of this name is defined (in {here})", ["delete", "x"]),
                (1, f"x: no network of this name is defined (in {here})", ["forward", "x", "add", "tcp:1:a:2"]),
                (2, "forward: only a network of kind nat forwards ports", ["forward", "lan", "add", "tcp:1:a:2"])):
            with self.subTest(words=words):
                self.refused(status, message, "network", *words)
        self.assertEqual(os.listdir(here), ["lan"])

    def test_a_faulty_definition_is_told_with_its_place(self):
        self.good("network", "create", "lan", "--kind", "internal")
        path = os.path.join(self.data, "networks", "lan", "network.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("kind: internal\nmtus: 3\n")
        shown = self.shown("lan")
        self.assertEqual(shown["state"], "faulty")
        self.assertIn(f"{path}:2:1: unknown option 'mtus'; did you mean 'mtu'?", shown["problem"])

    def test_one_that_machines_want_is_deleted_with_a_word(self):
        self.good("network", "create", "lan", "--kind", "internal")
        for name in "web", "db":
            self.good("create", name, "--kernel", PAYLOAD, "--nic", "switch=lan")
        self.refused(1, "lan: machines are defined to be on it: db, web; plug them elsewhere, or say --yes",
                     "network", "delete", "lan")
        self.good("network", "delete", "lan", "--yes")
        self.assertEqual(self.good("network", "list", "--names"), "")

    def test_the_folder_of_the_networks_is_no_machine(self):
        result = self.anima("delete", "networks", "--yes")
        self.assertEqual(result.returncode, 2)
        self.assertIn("this is the folder of the networks", result.stderr)


if __name__ == "__main__":
    unittest.main()
