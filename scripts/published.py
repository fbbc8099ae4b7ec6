#!/usr/bin/env python3
"""The packages that are published, and whether their manifests and READMEs are fit for it.

    scripts/published.py order      their names, each after those that it depends on
    scripts/published.py excluded   the other members of the workspace
    scripts/published.py check      says what is missing, and fails if anything is
"""

import json
import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: *(\S+)", re.MULTILINE)


def members():
    text = subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"])
    return json.loads(text)["packages"]


def order(packages):
    """Dev-dependencies count: a registry wants them too."""
    left = {package["name"]: package for package in packages}
    done = []
    while left:
        ready = [
            name
            for name, package in sorted(left.items())
            if not any(d["name"] in left and d["name"] != name for d in package["dependencies"])
        ]
        if not ready:
            raise SystemExit(f"these depend on each other in a circle: {', '.join(left)}")
        done += ready
        for name in ready:
            del left[name]
    return done


def problems(package, published, version):
    folder = Path(package["manifest_path"]).parent
    for field, wanted in (("description", str), ("license", str), ("readme", str), ("keywords", list), ("categories", list)):
        if not package[field]:
            yield f"has no {field}"
    if package["version"] != version:
        yield f"has version {package['version']}, the workspace {version}"
    if not package["rust_version"]:
        yield "has no rust-version"
    if len(package["keywords"]) > 5 or any(len(word) > 20 for word in package["keywords"]):
        yield "has more than five keywords, or one of more than 20 letters"
    if len(package["description"] or "") > 200:
        yield "has a description that is longer than a line of a search"
    for dependency in package["dependencies"]:
        if "path" in dependency and dependency["path"]:
            if dependency["req"] == "*":
                yield f"depends on {dependency['name']} by path alone: give it a version"
            elif dependency["name"] not in published:
                yield f"depends on {dependency['name']}, which is not published"
    if package["readme"]:
        text = (folder / package["readme"]).read_text()
        for link in LINK.finditer(text):
            target = link[1] or link[2]
            if not re.match(r"https://|#", target):
                yield f"{package['readme']} links to {target}, which leads nowhere on docs.rs or crates.io"


def main():
    packages = members()
    published = [package for package in packages if package["publish"] != []]
    names = [package["name"] for package in published]
    if sys.argv[1:] == ["order"]:
        print("\n".join(order(published)))
    elif sys.argv[1:] == ["excluded"]:
        print("\n".join(package["name"] for package in packages if package["name"] not in names))
    elif sys.argv[1:] == ["check"]:
        root = next(package for package in packages if package["name"] == "barrierd-bpf")
        found = [
            f"{package['name']} {problem}"
            for package in published
            for problem in problems(package, names, root["version"])
        ]
        print("\n".join(found), end="\n" if found else "")
        print(f"{len(published)} packages are published, {len(found)} things are wrong with them")
        return bool(found)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
