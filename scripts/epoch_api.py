#!/usr/bin/env python3
"""Compares the public interface of crossbeam_epoch with that of barrierd_reclaim::epoch, item by item.

    scripts/epoch_api.py THEIRS.json OURS.json

Both are what rustdoc writes as JSON. Prints what is in one alone; 1 is the status if that is anything but
what EXPECTED names.
"""

import json
import sys

# What is different, with the reason.
EXPECTED = {
    # Settings, limits and an end: crossbeam-epoch has none.
    "+ fn configure",
    "+ fn drain",
    "+ enum ConfigureError",
    "+ struct DrainError",
    "+ fn Collector::build",
    "+ fn Collector::stats",
    "+ fn Collector::status",
    "+ fn Collector::blockers",
    "+ fn Collector::drain",
    # Deferred in the name of others: ours may be seen by whoever catches a panic.
    "+ impl UnwindSafe for Collector",
    "+ impl RefUnwindSafe for Collector",
    "- impl !UnwindSafe for Collector",
    "- impl !RefUnwindSafe for Collector",
}
# Blanket impls of the standard library, which every type has.
SKIPPED = {
    "Any", "Borrow", "BorrowMut", "CloneToUninit", "From", "Into", "ToOwned", "ToString", "TryFrom", "TryInto",
}


class Crate:
    def __init__(self, path, module):
        crate = json.load(open(path))
        self.index, self.items = crate["index"], {}
        root = self.index[str(crate["root"])]
        if module:
            children = [self.index[str(i)] for i in root["inner"]["module"]["items"]]
            root = next(c for c in children if c["name"] == module)
        self.walk(root)

    def walk(self, module):
        for child in module["inner"]["module"]["items"]:
            item = self.index[str(child)]
            if item["visibility"] != "public":
                continue
            if "use" in item["inner"]:
                target = item["inner"]["use"]["id"]
                if target is None or str(target) not in self.index:
                    continue
                item = self.index[str(target)]
            self.add(item, "")

    def add(self, item, owner):
        kind, inner = next(iter(item["inner"].items()))
        name = owner + item["name"]
        if kind == "function":
            self.put(f"fn {name}", item, self.function(inner))
        elif kind in ("struct", "enum", "union"):
            fields = inner.get("kind", {})
            public = fields.get("plain", {}).get("fields", []) if isinstance(fields, dict) else []
            shown = [
                (f["name"], self.type(f["inner"]["struct_field"]))
                for f in (self.index[str(i)] for i in public if str(i) in self.index)
                if f["visibility"] == "public"
            ]
            self.put(f"{kind} {name}", item, (self.generics(inner["generics"]), shown))
            for impl in inner["impls"]:
                self.impl(name, self.index[str(impl)])
        elif kind == "trait":
            self.put(f"trait {name}", item, self.generics(inner["generics"]))
            for member in inner["items"]:
                self.add(self.index[str(member)], f"{name}::")
            for impl in inner["implementations"]:
                self.impl(name, self.index[str(impl)])
        elif kind == "type_alias":
            self.put(f"type {name}", item, (self.generics(inner["generics"]), self.type(inner["type"])))
        elif kind in ("assoc_const", "assoc_type"):
            self.put(f"{kind} {name}", item, self.type(inner["type"]) if inner["type"] else None)
        else:
            raise SystemExit(f"{kind} {name}: not known")

    def impl(self, owner, item):
        inner = item["inner"]["impl"]
        if inner["trait"] is None:
            where = self.generics(inner["generics"])
            for member in inner["items"]:
                member = self.index[str(member)]
                if member["visibility"] == "public":
                    self.add(member, f"{owner}::")
                    key = f"fn {owner}::{member['name']}"
                    self.items[key] = (*self.items[key], where, self.type(inner["for"]))
            return
        trait = inner["trait"]["path"].split("::")[-1]
        if inner["blanket_impl"] is not None and trait in SKIPPED | {"Pointable", "Receiver"}:
            return
        arguments = self.arguments(inner["trait"]["args"])
        name = f"impl {'!' if inner['is_negative'] else ''}{trait}{arguments or ''} for {self.type(inner['for'])}"
        # The bounds of auto traits follow from private fields: the test in epoch_api.rs asks for facts.
        self.put(name, item, [] if inner["is_synthetic"] else self.generics(inner["generics"]))

    def put(self, name, item, value):
        deprecated = item["deprecation"] is not None
        self.items[name] = (deprecated, value)

    def function(self, inner):
        sig, header = inner["sig"], inner["header"]
        return (
            self.generics(inner["generics"]),
            [self.type(t) for _, t in sig["inputs"]],
            self.type(sig["output"]) if sig["output"] else None,
            [header["is_const"], header["is_unsafe"], header["is_async"]],
        )

    def generics(self, generics):
        # Where a bound stands does not matter.
        bounds = []
        for param in generics["params"]:
            kind = next(iter(param["kind"]))
            if kind == "type" and not param["kind"]["type"].get("is_synthetic"):
                bounds.append(f"type {param['name']}")
                bounds += [f"{param['name']}: {self.bound(b)}" for b in param["kind"]["type"]["bounds"]]
        for where in generics["where_predicates"]:
            if "bound_predicate" in where:
                where = where["bound_predicate"]
                bounds += [f"{self.type(where['type'])}: {self.bound(b)}" for b in where["bounds"]]
        return sorted(bounds)

    def bound(self, bound):
        if "trait_bound" in bound:
            trait = bound["trait_bound"]["trait"]
            maybe = "?" if bound["trait_bound"]["modifier"] == "maybe" else ""
            return f"{maybe}{trait['path'].split('::')[-1]}{self.arguments(trait['args']) or ''}"
        return "'static" if bound.get("outlives") == "'static" else "'_"

    def arguments(self, args):
        if not args:
            return ""
        if "angle_bracketed" in args:
            args = args["angle_bracketed"]
            shown = [self.type(a["type"]) for a in args["args"] if "type" in a]
            return f"<{', '.join(shown)}>" if shown else ""
        args = args["parenthesized"]
        output = self.type(args["output"]) if args["output"] else "()"
        return f"({', '.join(self.type(t) for t in args['inputs'])}) -> {output}"

    def type(self, kind):
        if kind == "infer":
            return "_"
        which, inner = next(iter(kind.items()))
        if which == "resolved_path":
            return inner["path"].split("::")[-1] + (self.arguments(inner["args"]) or "")
        if which in ("generic", "primitive"):
            return inner
        if which == "borrowed_ref":
            static = "'static " if inner["lifetime"] == "'static" else ""
            return f"&{static}{'mut ' if inner['is_mutable'] else ''}{self.type(inner['type'])}"
        if which == "raw_pointer":
            return f"*{'mut' if inner['is_mutable'] else 'const'} {self.type(inner['type'])}"
        if which == "slice":
            return f"[{self.type(inner)}]"
        if which == "tuple":
            return f"({', '.join(self.type(t) for t in inner)})"
        if which == "qualified_path":
            return f"{self.type(inner['self_type'])}::{inner['name']}"
        raise SystemExit(f"{which}: not known")


def own_types(items, types):
    """`Self` and the type's own name are the same."""
    for name, value in items.items():
        text = json.dumps(value)
        for kind in types:
            if name.startswith((f"fn {kind}::", "impl")) and kind in name:
                text = text.replace(f'"{kind}<T>"', '"Self"').replace(f'"{kind}"', '"Self"')
                text = text.replace(f"{kind}<T>", "Self") if name.startswith(f"fn {kind}::") else text
        yield name, text


def main():
    theirs, ours = Crate(sys.argv[1], None), Crate(sys.argv[2], "epoch")
    types = ["Atomic", "Owned", "Shared", "Collector"]
    theirs, ours = dict(own_types(theirs.items, types)), dict(own_types(ours.items, types))
    found = set()
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in ours:
            found.add(f"- {name}")
        elif name not in theirs:
            found.add(f"+ {name}")
        elif ours[name] != theirs[name]:
            found.add(f"~ {name}")
            print(f"theirs: {name} {theirs[name]}\nours:   {name} {ours[name]}")
    added = {"ConfigureError", "DrainError"}
    found = {f for f in found if not any(f.endswith(f" for {a}") or f" {a}::" in f for a in added)}
    print(f"{len(theirs)} items there, {len(ours)} here")
    for line in sorted(found):
        print(line, "" if line in EXPECTED else "  <- not expected")
    for line in sorted(EXPECTED - found):
        print(line, "  <- expected, and not found")
    return found != EXPECTED


if __name__ == "__main__":
    sys.exit(main())
