#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""python.py HEADER LIBRARY: print the Python module over libanima, made of its header.

  struct anima_NAME without members   a class Name; what takes one first is a method of it
  anima_NAME_destroy                  happens when the last reference goes, or by close()
  struct anima_error **error          an exception, Error
  char *, const char *                str; what the library allocated is copied and freed
  other pointers to what is no handle further results, as a tuple behind the first one
  trailing fd, timeout_ms, params     may be left out: none, for ever, none
  a name that is a word of Python's   has a line behind it: import_
"""
import keyword
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import header  # pylint: disable=wrong-import-position

PRELUDE = '''# SPDX-License-Identifier: Apache-2.0
"""{about}

This module is made from anima.h; see libanima(3). Texts in JSON stay texts.
"""
import ctypes as _c
import enum as _enum
import weakref as _weakref

_lib = _c.CDLL("{library}")


class Code(_enum.IntEnum):
    """What kind of failure an Error is."""
{codes}


class Error(Exception):
    """A function failed; `code` says how, and the text why."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = Code(code)


class _Failure(_c.Structure):
    _fields_ = [("code", _c.c_int), ("message", _c.c_char_p)]


class _Failing:
    """The `error` of one call."""

    def __init__(self):
        self.pointer = _c.POINTER(_Failure)()

    def check(self):
        """Raise what was told."""
        if not self.pointer:
            return
        failure = self.pointer.contents
        error = Error(failure.code, failure.message.decode("utf-8", "replace"))
        _lib.anima_error_free(self.pointer)
        raise error


def _text(value):
    return None if value is None else value.encode()


def _borrowed(value):
    return None if value is None else value.decode("utf-8", "replace")


def _owned(pointer):
    if not pointer:
        return None
    text = _c.cast(pointer, _c.c_char_p).value.decode("utf-8", "replace")
    _lib.anima_free(_c.c_void_p(pointer))
    return text


def _texts(values):
    """A NULL-terminated list for the library."""
    return (_c.c_char_p * (len(values) + 1))(*[value.encode() for value in values], None)


def _list(pointer):
    found = []
    while pointer and pointer[len(found)]:
        found.append(pointer[len(found)].decode("utf-8", "replace"))
    return found


class _Handle:
    """What the library has behind a pointer. The same pointer is always the same object."""
    _known = _weakref.WeakValueDictionary()
    _destroy = None

    @classmethod
    def _of(cls, pointer):
        if not pointer:
            return None
        known = _Handle._known.get((cls, pointer))
        if known:
            return known
        self = object.__new__(cls)
        self._pointer = pointer
        if cls._destroy:
            _Handle._known[(cls, pointer)] = self
            self._finalizer = _weakref.finalize(self, cls._destroy, _c.c_void_p(pointer))
        return self

    def __init__(self):
        raise TypeError(f"{{type(self).__name__}} is made by functions of the module")

    def close(self):
        """Destroy it now; it cannot be used any more."""
        if self._destroy and self._pointer:
            _Handle._known.pop((type(self), self._pointer), None)
            self._pointer = None
            self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def _as_parameter_(self):
        if not self._pointer:
            raise ValueError(f"{{type(self).__name__}}: it was closed")
        return _c.c_void_p(self._pointer)

'''

SCALARS = {"bool": "_c.c_bool", "int": "_c.c_int", "unsigned": "_c.c_uint", "size_t": "_c.c_size_t",
           "uint64_t": "_c.c_uint64", "int64_t": "_c.c_int64", "void": "None"}
DEFAULTS = {"fd": "-1", "serial_fd": "-1", "log_fd": "-1", "timeout_ms": "-1", "params": "None", "settings": "()",
            "keep_macs": "False"}
HIDDEN = {"anima_free", "anima_error_free"}


def class_name(struct):
    return "".join(word.capitalize() for word in struct.split("_")[1:])


def method_name(name):
    """What is a word of Python's has a line behind it: import_."""
    return name + "_" if keyword.iskeyword(name) else name


class Generator:
    def __init__(self, api):
        self.api = api
        self.handles = set(api.opaque)
        self.plain = {struct.name for struct in api.structs} - {"anima_error"}

    def handle_of(self, kind):
        """The struct's name, when the type is a pointer to a handle."""
        match = re.fullmatch(r"(?:const )?struct (\w+) \*", kind)
        return match[1] if match and match[1] in self.handles else None

    def argtype(self, param):
        kind = param.type
        if self.handle_of(kind) or kind == "void *":
            return "_c.c_void_p"
        if kind == "const char *":
            return "_c.c_char_p"
        if kind == "const char *const *":
            return "_c.POINTER(_c.c_char_p)"
        if kind == "struct anima_error **":
            return "_c.POINTER(_c.POINTER(_Failure))"
        out = re.fullmatch(r"(?:struct )?(\w+) \*", kind)
        if out and (out[1] in self.plain or out[1] in SCALARS):
            return f"_c.POINTER({self.out_type(kind)})"
        if kind in SCALARS:
            return SCALARS[kind]
        if kind == "struct anima_error *":
            return "_c.POINTER(_Failure)"
        raise SystemExit(f"python.py: no rule for the parameter '{kind} {param.name}'")

    def out_type(self, kind):
        name = re.fullmatch(r"(?:struct )?(\w+) \*", kind)[1]
        return f"_{class_name(name)}" if name in self.plain else SCALARS[name]

    def restype(self, function):
        kind = function.type
        if self.handle_of(kind) or kind == "char *":
            return "_c.c_void_p"
        if kind == "const char *":
            return "_c.c_char_p"
        if kind == "const char *const *":
            return "_c.POINTER(_c.c_char_p)"
        if kind in SCALARS:
            return SCALARS[kind]
        raise SystemExit(f"python.py: {function.name}: no rule for the result '{kind}'")

    def result(self, function):
        """The expression that makes a Python value of `result`."""
        kind = function.type
        handle = self.handle_of(kind)
        if handle:
            return f"{class_name(handle)}._of(result)"
        return {"char *": "_owned(result)", "const char *": "_borrowed(result)",
                "const char *const *": "_list(result)"}.get(kind, "result")

    def prototypes(self):
        for function in self.api.functions:
            args = ", ".join(self.argtype(param) for param in function.params)
            yield f"_lib.{function.name}.restype = {self.restype(function)}"
            yield f"_lib.{function.name}.argtypes = [{args}]"

    def structs(self):
        """Plain structs, and what becomes of them: an object with the same members."""
        for struct in self.api.structs:
            if struct.name not in self.plain:
                continue
            name = class_name(struct.name)
            fields, texts = [], []
            for member in struct.members:
                owned = member.type == "char *"
                texts += [member.name] if owned else []
                fields.append(f'("{member.name}", '
                              f'{"_c.c_void_p" if owned else SCALARS[member.type]})')
            yield f"class _{name}(_c.Structure):\n    _fields_ = [{', '.join(fields)}]\n\n"
            yield f'class {name}:\n    """{struct.about}"""\n\n    def __init__(self, told):\n'
            for member in struct.members:
                value = f"told.{member.name}"
                yield (f"        self.{member.name} = "
                       f"{f'_owned({value})' if member.name in texts else value}"
                       f"  # {member.about}\n")
            yield "\n\n"

    def body(self, function, me, indent):
        lines, args, outs, failing = [], [], [], False
        for position, param in enumerate(function.params):
            if param.type == "struct anima_error **":
                lines.append("failing = _Failing()")
                args.append("_c.byref(failing.pointer)")
                failing = True
            elif self.is_out(param):
                lines.append(f"{param.name} = {self.out_type(param.type)}()")
                args.append(f"_c.byref({param.name})")
                outs.append(param)
            elif self.handle_of(param.type):
                args.append("self" if position == 0 and me else param.name)
            elif param.type == "const char *":
                args.append(f"_text({param.name})")
            elif param.type == "const char *const *":
                args.append(f"_texts({param.name})")
            else:
                args.append(param.name)
        lines.append(f"result = _lib.{function.name}({', '.join(args)})")
        if failing:
            lines.append("failing.check()")
        value = self.result(function)
        if outs:
            value += "".join(f", {self.out_value(param)}" for param in outs)
        if function.type != "void" and not (failing and function.type == "bool" and not outs):
            lines.append(f"return {value}")
        space = indent + "    "
        return "".join(f"{space}{line}\n" for line in lines)

    def is_out(self, param):
        return param.type.endswith("*") and "POINTER" in self.argtype(param) and \
            not param.type.startswith("const") and param.type != "struct anima_error **"

    def out_value(self, param):
        name = re.fullmatch(r"(?:struct )?(\w+) \*", param.type)[1]
        if name in self.plain:
            return f"{class_name(name)}({param.name})"
        return f"{param.name}.value"

    def function(self, function, name, decorator, me):
        """`me`: it is a method, whose first parameter is the object."""
        params = [param for param in function.params[1 if me else 0:]
                  if not self.is_out(param) and param.type != "struct anima_error **"]
        shown, defaults = [], True
        for param in reversed(params):
            defaults = defaults and param.name in DEFAULTS
            shown.insert(0, f"{param.name}={DEFAULTS[param.name]}" if defaults else param.name)
        indent = "    " if decorator or me else ""
        head = f"{indent}{decorator}\n" if decorator else ""
        signature = ", ".join((["self"] if me else []) + shown)
        about = function.about.replace("\n", f"\n{indent}    ")
        yield (f'{head}{indent}def {name}({signature}):\n{indent}    """{about}"""\n'
               f"{self.body(function, me, indent)}\n{'' if indent else chr(10)}")

    def owner(self, function):
        """The handle's struct whose class has the function; None: the module has it."""
        fits = [one for one in self.handles if function.name.startswith(one + "_")]
        return max(fits, key=len, default=None)

    def classes(self):
        for handle in self.api.opaque:
            yield f'class {class_name(handle)}(_Handle):\n    """A struct {handle} of libanima."""\n'
            functions = [one for one in self.api.functions if self.owner(one) == handle]
            if any(one.name == f"{handle}_destroy" for one in functions):
                yield f"    _destroy = _lib.{handle}_destroy\n"
            yield "\n"
            for function in functions:
                name = method_name(function.name[len(handle) + 1:])
                if name == "destroy":
                    continue
                me = bool(function.params) and self.handle_of(function.params[0].type) == handle
                yield from self.function(function, name, None if me else "@staticmethod", me)
            yield "\n"

    def module(self, library):
        codes = "\n".join(f"    {name[len('ANIMA_ERROR_'):]} = {number}  # {about}"
                          for enum in self.api.enums if enum.name == "anima_error_code"
                          for name, number, about in enum.values)
        yield PRELUDE.format(about=self.api.about, library=library, codes=codes)
        yield "\n"
        yield from self.structs()
        yield from (line + "\n" for line in self.prototypes())
        yield "\n\n"
        yield from self.classes()
        for function in self.api.functions:
            if not self.owner(function) and function.name not in HIDDEN:
                yield from self.function(function, method_name(function.name[len("anima_"):]), None, False)


def main():
    api = header.read(sys.argv[1])
    module = "".join(Generator(api).module(sys.argv[2])).rstrip() + "\n"
    compile(module, "anima.py", "exec")
    sys.stdout.write(module)


if __name__ == "__main__":
    main()
