#!/usr/bin/env python3
"""What a library promises, one line an item: the listing that `api/*.txt` keeps, from rustdoc's JSON.

    scripts/public_api.py CRATE.json

Signatures are written by name alone, without lifetimes, so that a listing stays the same where nothing that a user can
notice changes. Left out: auto traits except Send and Sync, the standard library's
blanket impls, and hidden items.
"""

import sys

from epoch_api import Crate

# What every type has, or what the compiler decides.
SKIPPED = {"StructuralPartialEq"}


class Listing(Crate):
    def __init__(self, path):
        import json

        crate = json.load(open(path))
        self.index, self.lines, self.seen = crate["index"], set(), set()
        root = self.index[str(crate["root"])]
        self.module(root, root["name"])

    def module(self, module, path):
        for child in module["inner"]["module"]["items"]:
            item = self.index.get(str(child))
            if item is None or item["visibility"] != "public" or hidden(item):
                continue
            name = item["name"]
            if "use" in item["inner"]:
                use = item["inner"]["use"]
                target = self.index.get(str(use["id"])) if use["id"] is not None else None
                if target is None:
                    self.lines.add(f"use {path}::{use['name']} = {use['source']}")
                    continue
                if use["is_glob"]:
                    self.module(target, path)
                    continue
                item, name = target, use["name"]
            self.item(item, f"{path}::{name}")

    def item(self, item, path):
        kind, inner = next(iter(item["inner"].items()))
        if kind == "module":
            self.lines.add(f"mod {path}")
            self.module(item, path)
        elif kind == "function":
            self.lines.add(f"fn {path}{self.signature(inner)}{self.mark(item)}")
        elif kind in ("struct", "union", "enum"):
            self.lines.add(f"{kind} {path}{self.bounds(inner['generics'])}{self.mark(item)}")
            self.fields(inner.get("kind"), path)
            for variant in inner.get("variants", []):
                variant = self.index[str(variant)]
                self.lines.add(f"variant {path}::{variant['name']}")
                self.fields(variant["inner"]["variant"]["kind"], f"{path}::{variant['name']}")
            self.impls(inner["impls"], path)
        elif kind == "trait":
            unsafe = " [unsafe]" if inner["is_unsafe"] else ""
            self.lines.add(f"trait {path}{self.bounds(inner['generics'])}{unsafe}{self.mark(item)}")
            for member in inner["items"]:
                member = self.index[str(member)]
                self.item(member, f"{path}::{member['name']}")
            # Of the crate's own traits: which foreign types have them.
            for impl in inner["implementations"]:
                self.impl(self.index.get(str(impl)))
        elif kind == "type_alias":
            self.lines.add(f"type {path} = {self.type(inner['type'])}{self.mark(item)}")
        elif kind == "assoc_type":
            shown = f" = {self.type(inner['type'])}" if inner["type"] else ""
            self.lines.add(f"type {path}{shown}")
        elif kind == "assoc_const":
            self.lines.add(f"const {path}: {self.type(inner['type'])}")
        elif kind == "constant":
            self.lines.add(f"const {path}: {self.type(inner['type'])}")
        elif kind == "static":
            self.lines.add(f"static {path}: {self.type(inner['type'])}")
        elif kind == "macro":
            self.lines.add(f"macro {path}")
        else:
            raise SystemExit(f"{kind} {path}: not known to scripts/public_api.py")

    def fields(self, kind, path):
        if not isinstance(kind, dict):
            return
        shape, inner = next(iter(kind.items()))
        fields = inner["fields"] if shape in ("plain", "struct") else inner
        for field in fields:
            field = self.index.get(str(field)) if field is not None else None
            if field and field["visibility"] in ("public", "default"):
                self.lines.add(f"field {path}.{field['name']}: {self.type(field['inner']['struct_field'])}")

    def impls(self, impls, path):
        for impl in impls:
            item = self.index[str(impl)]
            inner = item["inner"]["impl"]
            if inner["trait"] is not None:
                self.impl(item)
                continue
            for member in inner["items"]:
                member = self.index[str(member)]
                if member["visibility"] == "public" and not hidden(member):
                    self.item(member, f"{path}::{member['name']}")

    def impl(self, item):
        if item is None:
            return
        inner = item["inner"]["impl"]
        trait = inner["trait"]["path"].split("::")[-1]
        negative = "!" if inner["is_negative"] else ""
        if inner["is_synthetic"]:
            # Its bounds follow from private fields.
            if trait in ("Send", "Sync"):
                self.lines.add(f"impl {negative}{trait} for {self.type(inner['for'])}")
            return
        if inner["blanket_impl"] is not None or trait in SKIPPED:
            return
        arguments = self.arguments(inner["trait"]["args"]) or ""
        self.lines.add(f"impl {negative}{trait}{arguments} for {self.type(inner['for'])}{self.bounds(inner['generics'])}")

    def mark(self, item):
        """What callers notice beside the signature."""
        marks = ["deprecated"] if item["deprecation"] is not None else []
        attributes = " ".join(str(a) for a in item["attrs"])
        marks += [m for m in ("must_use", "non_exhaustive") if m in attributes]
        return "".join(f" #[{m}]" for m in marks)

    def signature(self, inner):
        bounds, inputs, output, (const, unsafe, is_async) = self.function(inner)
        words = "".join(w for w, is_so in (("const ", const), ("unsafe ", unsafe), ("async ", is_async)) if is_so)
        shown = f"({', '.join(inputs)})" + (f" -> {output}" if output else "")
        return shown + (f" where {', '.join(bounds)}" if bounds else "") + (f" [{words.strip()}]" if words else "")

    def bounds(self, generics):
        found = self.generics(generics)
        return f" where {', '.join(found)}" if found else ""

    def type(self, kind):
        if isinstance(kind, dict):
            which, inner = next(iter(kind.items()))
            if which == "impl_trait":
                return "impl " + " + ".join(self.bound(b) for b in inner)
            if which == "dyn_trait":
                traits = [t["trait"] for t in inner["traits"]]
                return "dyn " + " + ".join(t["path"].split("::")[-1] + (self.arguments(t["args"]) or "") for t in traits)
            if which == "array":
                return f"[{self.type(inner['type'])}; {inner['len']}]"
            if which == "function_pointer":
                sig = inner["sig"]
                inputs = ", ".join(self.type(t) for _, t in sig["inputs"])
                unsafe = "unsafe " if inner["header"]["is_unsafe"] else ""
                return f"{unsafe}fn({inputs})" + (f" -> {self.type(sig['output'])}" if sig["output"] else "")
        return super().type(kind)


def hidden(item):
    return any("hidden" in str(attribute) for attribute in item["attrs"])


if __name__ == "__main__":
    print("\n".join(sorted(Listing(sys.argv[1]).lines)))
