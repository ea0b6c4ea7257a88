#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""manual.py HEADER --names: the manual pages of section 3 that there are, one a line.
manual.py HEADER OVERVIEW FOLDER: write them, by scdoc(1): a page for each function, and libanima(3)
from OVERVIEW (scdoc(5)), where the line @FUNCTIONS@ stands for the list of all."""
import os
import re
import subprocess
import sys
import textwrap

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import header  # pylint: disable=wrong-import-position

FAILS = """# ERRORS

Where _error_ is not NULL, a failure sets _\\*error_ to a _struct anima\\_error_ with a code and a
message, which *anima_error_free*(3) frees.

"""


def escape(text):
    return re.sub(r"([_*\\#<>\[\]~])", r"\\\1", text)


def first_sentence(about):
    sentence = re.split(r"(?<=[^.])[.;:](?:\s|$)", " ".join(about.split()))[0]
    word = sentence.split()[0]
    if len(word) > 1 and word[:2].isupper():
        return sentence
    return sentence[0].lower() + sentence[1:]


def markup(about, api):
    """Names of functions and parameters stand out."""
    text = escape(about)
    text = re.sub(r"`([^`]*)`", r"_\1_", text)
    for function in sorted(api.functions, key=lambda one: -len(one.name)):
        name = escape(function.name)
        text = re.sub(rf"(?<![*\w\\]){re.escape(name)}(?![\w\\(])", f"*{name}*(3)", text)
    return text


def prototype(function):
    params = ", ".join(f"{one.type} {one.name}".replace("* ", "*") for one in function.params)
    kind = f"{function.type} {function.name}".replace("* ", "*")
    return "\n".join(textwrap.wrap(f"{kind}({params or 'void'});", 72, subsequent_indent="    "))


def page(function, api):
    fails = any(one.name == "error" for one in function.params)
    return (f'{function.name}(3) "anima" "libanima Manual"\n\n'
            f"# NAME\n\n{escape(function.name)} - {escape(first_sentence(function.about))}\n\n"
            f"# SYNOPSIS\n\n```\n#include <anima.h>\n\n{prototype(function)}\n```\n\n"
            f"# DESCRIPTION\n\n{markup(function.about, api)}\n\n{FAILS if fails else ''}"
            "# SEE ALSO\n\n*libanima*(3)\n")


def listing(api):
    lines = []
    for section in [""] + api.sections:
        functions = [one for one in api.functions if one.section == section]
        if functions and section:
            lines.append(f"## {escape(section.upper())}\n")
        lines += [f"*{escape(one.name)}*(3)\n\t{markup(first_sentence(one.about), api)}\n"
                  for one in functions]
    lines.append("## ERROR CODES\n")
    for enum in api.enums:
        lines += [f"*{escape(name)}*\n\t{escape(about)}\n" for name, _, about in enum.values]
    return "\n".join(lines) + "\n"


def write(folder, name, source):
    result = subprocess.run(["scdoc"], input=source, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{name}: {result.stderr}{source}")
    with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
        stream.write(result.stdout)


def main():
    api = header.read(sys.argv[1])
    if sys.argv[2] == "--names":
        print("\n".join(["libanima.3"] + [f"{one.name}.3" for one in api.functions]))
        return
    with open(sys.argv[2], encoding="utf-8") as stream:
        overview = stream.read().replace("@FUNCTIONS@\n", listing(api)).replace(
            "@ABOUT@\n", markup(api.about, api) + "\n")
    write(sys.argv[3], "libanima.3", overview)
    for function in api.functions:
        write(sys.argv[3], f"{function.name}.3", page(function, api))


if __name__ == "__main__":
    main()
