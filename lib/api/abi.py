#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""abi.py HEADER LIST LIBRARY [--update]: compare what libanima promises to programs that were built
with it, namely its symbols with their versions and prototypes, the numbers of its enums and the
layout of its structs, with the committed list.

What is in the list stays as long as the library's soname; --update writes additions down."""
import difflib
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import header  # pylint: disable=wrong-import-position


def exported(library):
    """Names of the symbols that programs can link to, with their versions."""
    output = subprocess.run(["nm", "--dynamic", "--defined-only", "--with-symbol-versions", library],
                            capture_output=True, text=True, check=True).stdout
    return dict(line.split()[2].split("@@") for line in output.splitlines() if "@@" in line and
                line.split()[1] != "A")


def layout(path, api):
    """Lines on the layout of structs and enums, as the compiler has it."""
    lines = ['#include <stddef.h>', '#include <stdio.h>', f'#include "{os.path.abspath(path)}"',
             "int main(void) {"]
    for struct in api.structs:
        lines.append(f'printf("struct {struct.name}: %zu bytes\\n", sizeof(struct {struct.name}));')
        for member in struct.members:
            place = f"offsetof(struct {struct.name}, {member.name})"
            lines.append(f'printf("struct {struct.name}: %zu {member.type} {member.name}\\n", '
                         f"{place});")
    for enum in api.enums:
        for name, _, _ in enum.values:
            lines.append(f'printf("enum {enum.name}: {name} = %d\\n", {name});')
    lines.append("}")
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "layout.c"), os.path.join(folder, "layout")
        with open(source, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        subprocess.run(["cc", "-o", program, source], check=True)
        return subprocess.run([program], capture_output=True, text=True,
                              check=True).stdout.splitlines()


def describe(path, library):
    api = header.read(path)
    symbols = exported(library)
    declared = {function.name for function in api.functions}
    if declared != set(symbols):
        raise SystemExit(f"declared and not exported, or the reverse: {declared ^ set(symbols)}")
    lines = []
    for function in api.functions:
        params = ", ".join(f"{one.type} {one.name}".replace("* ", "*") for one in function.params)
        kind = f"{function.type} {function.name}".replace("* ", "*")
        lines.append(f"{symbols[function.name]} {kind}({params or 'void'})")
    return sorted(lines) + layout(path, api)


def main():
    path, committed, library = sys.argv[1:4]
    lines = describe(path, library)
    if "--update" in sys.argv:
        with open(committed, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        return 0
    with open(committed, encoding="utf-8") as stream:
        before = stream.read().splitlines()
    if before == lines:
        return 0
    print("\n".join(difflib.unified_diff(before, lines, committed, library, lineterm="", n=0)))
    print("libanima's ABI is not as committed. What is gone or changed breaks programs; for what is\n"
          f"new alone, run: {' '.join(sys.argv)} --update")
    return 1


if __name__ == "__main__":
    sys.exit(main())
