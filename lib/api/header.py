# SPDX-License-Identifier: Apache-2.0
"""Reads include/anima.h: its functions, structs and enums, with what is said of each.

The header is written so that this is easy: a comment that begins with two stars stands before what
it tells of, and after a member of a struct or an enum; a section begins with a comment between
dashes; every declaration ends with a semicolon. What it has otherwise is an error here, so that
nothing is left out of the manual, the Python module or the list of the ABI without a word.
"""
import re
from dataclasses import dataclass, field

TOKEN = re.compile(r"/\*\*(?P<doc>.*?)\*/|/\* ---- (?P<section>.*?) ---- \*/|/\*.*?\*/|"
                   r"(?P<code>[^/;{}]+|/(?!\*))|(?P<mark>[;{}])", re.S)


@dataclass
class Variable:
    """A parameter or a member."""
    type: str
    name: str
    about: str = ""


@dataclass
class Function:
    name: str
    type: str
    params: list
    about: str
    section: str


@dataclass
class Struct:
    name: str
    members: list
    about: str


@dataclass
class Enum:
    name: str
    values: list  # of (name, number, about)


@dataclass
class Header:
    about: str = ""
    sections: list = field(default_factory=list)
    functions: list = field(default_factory=list)
    structs: list = field(default_factory=list)
    opaque: list = field(default_factory=list)
    enums: list = field(default_factory=list)


def plain(comment):
    """A comment's text without its stars; paragraphs stay apart."""
    lines = [re.sub(r"^\s*(<|\* ?)?", "", line).rstrip() for line in comment.strip().splitlines()]
    return "\n".join(lines).strip()


def variable(text):
    match = re.fullmatch(r"(.*?[\s*])(\w+)", " ".join(text.split()))
    if not match:
        raise SystemExit(f"anima.h: no type and name: {text!r}")
    return Variable(match[1].strip(), match[2])


def function(text, about, section):
    match = re.fullmatch(r"(.*?)(\w+)\((.*)\)", " ".join(text.split()))
    if not match:
        raise SystemExit(f"anima.h: what is this? {text!r}")
    params = [] if match[3] == "void" else [variable(one) for one in match[3].split(",")]
    if not about:
        raise SystemExit(f"anima.h: {match[2]}: nothing is said of it")
    return Function(match[2], match[1].strip(), params, about, section)


def members(body):
    """Pairs of a member's text and what is said behind it."""
    found = re.findall(r"\s*([\w\s*=]+?)\s*(?:[;,]|(?=/\*\*<)|$)\s*(?:/\*\*<(.*?)\*/)?", body.strip(),
                       re.S)
    return [(text, plain(about)) for text, about in found]


def enum(name, body):
    values = []
    for text, about in members(body):
        match = re.fullmatch(r"(\w+)\s*=\s*(\d+)", text)
        if not match:
            raise SystemExit(f"anima.h: enum {name}: each value has its number, not {text!r}")
        values.append((match[1], int(match[2]), about))
    return Enum(name, values)


def struct(name, body, about):
    found = []
    for text, said in members(body):
        one = variable(text)
        found.append(Variable(one.type, one.name, said))
    return Struct(name, found, about)


def read(path):
    with open(path, encoding="utf-8") as stream:
        source = stream.read()
    source = re.sub(r"^#.*\n", "", source, flags=re.M)
    source = re.sub(r'extern "C" \{|^\}\s*$', "", source, flags=re.M)
    # Bodies of structs and enums keep their comments.
    header, about, section = Header(), "", ""
    position = 0
    while position < len(source):
        body = re.compile(r"\s*(struct|enum) (\w+) \{(.*?)\};", re.S).match(source, position)
        if body:
            if body[1] == "struct":
                header.structs.append(struct(body[2], body[3], about))
            else:
                header.enums.append(enum(body[2], body[3]))
            about, position = "", body.end()
            continue
        token = TOKEN.match(source, position)
        position = token.end()
        if token["doc"] is not None:
            if not header.about and not header.functions:
                header.about, about = plain(token["doc"]), ""
            else:
                about = plain(token["doc"])
        elif token["section"]:
            section = token["section"]
            header.sections.append(section)
        elif token["code"] and token["code"].strip():
            text = token["code"].strip()
            opaque = re.fullmatch(r"struct (\w+)", text)
            if opaque:
                header.opaque.append(opaque[1])
            else:
                header.functions.append(function(text, about, section))
            about = ""
    return header
