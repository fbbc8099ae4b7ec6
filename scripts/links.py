#!/usr/bin/env python3
"""Every file that a document names exists, and every link between documents leads somewhere. Part of `make lint`.

    scripts/links.py            prints a line for each that does not, and fails if there is one
    scripts/links.py --self-test

It reads the Markdown files that git knows, and the comments of sources: what these say of `PAGE.md, "A section"`, and
which files they name. A path in backquotes counts if it ends like a source file, or with a slash. It may be relative to
the root, to the document, to any package, or to the folder that a paragraph is about. Braces are alternatives, `*` is a
wildcard. CHANGELOG.md and docs/journal.md tell of files that are gone: of them only links are checked.
"""

import fnmatch
import itertools
import os
import re
import subprocess
import sys

ENDS = ("rs", "md", "c", "h", "sh", "py", "toml", "yml", "csv", "svg", "txt", "symbols", "service", "sysusers", "conf", "dict")
PAST = {"CHANGELOG.md", "docs/journal.md"}
# Files of other projects and of running systems, and what a build writes.
FOREIGN = re.compile(
    r"^(/|~|\.\./|target/|kernel/|mm/|fs/|include/uapi/|arch/|drivers/|src/raw/|"
    r"vmlinux\.h$|dlfcn\.h$|core\.c$|barrierd\.service\.d/|barrier\.sock$|barrierd\.prom|barrierd\.pc$|client\.c$|a\.out|demo\.sh\b)"
)
PATH = re.compile(r"^[A-Za-z0-9_.*{},/-]+$")
LINK = re.compile(r"(?<!!)\[[^\]\[]*(?:\[[^\]]*\][^\]\[]*)*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
DEFINITION = re.compile(r"^\[[^\]]+\]: +(\S+)$")


def expand(text):
    """Each alternative of a path with braces."""
    parts = re.split(r"\{([^{}]*)\}", text)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def anchors(text):
    """The anchors of a document's headings, as forges make them."""
    found, seen = set(), {}
    for line in without_blocks(text).splitlines():
        heading = re.match(r"#{1,6} +(.*?) *#*$", line)
        if heading:
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            count = seen.get(name, 0)
            seen[name] = count + 1
            found.add(name if count == 0 else f"{name}-{count}")
    return found


def without_blocks(text):
    """The text, with the lines of its code blocks left empty."""
    kept, inside = [], False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        kept.append("" if inside or fence else line)
        inside ^= fence
    return "\n".join(kept)


class Tree:
    def __init__(self, files, read):
        self.files, self.read = set(files), read
        self.folders = {"/".join(f.split("/")[:n]) for f in files for n in range(1, f.count("/") + 1)}
        self.packages = sorted({os.path.dirname(f) for f in files if os.path.basename(f) == "Cargo.toml"})
        # What a path may be relative to: packages, and the folders in which a package has its files.
        inside = ("", "src", "tests", "examples", "benches", "src/docs")
        self.bases = {os.path.normpath(os.path.join(p, i)) for p in self.packages for i in inside} | {"."}
        self.names = {os.path.basename(f) for f in files}

    def has(self, path):
        path = os.path.normpath(path)
        if "*" in path:
            return any(fnmatch.fnmatchcase(f, path) for f in self.files)
        return path in self.files or path in self.folders

    def names_a_file(self, path, document):
        """Whether a path as documents write it leads to a file or a folder."""
        path = path.rstrip("/")
        if "/" not in path:
            if any(fnmatch.fnmatchcase(name, path) for name in self.names):
                return True
        here = os.path.dirname(document)
        if any(self.has(os.path.join(base, path)) for base in {here, *self.bases}):
            return True
        # In a paragraph about a folder its files have shorter names.
        return any(fnmatch.fnmatchcase(f, "*/" + path) for f in self.files) or any(
            f.endswith("/" + path) for f in self.folders
        )

    def anchors(self, path):
        return anchors(self.read(path))


def is_path(text):
    if not PATH.match(text) or FOREIGN.match(text) or text.startswith(("-", "{", ".")) and "/" not in text:
        return False
    # Types, options and expressions; a group and a tracepoint; a rate.
    ends = text.rsplit(".", 1)[-1].rstrip("}") in ENDS
    return ends or (text.endswith("/") and "/" in text[:-1] + "/" and text[0] not in "/{")


def check(document, tree):
    """What is wrong with a document: (line, words)."""
    text = tree.read(document)
    here = os.path.dirname(document)
    for number, line in enumerate(without_blocks(text).splitlines(), 1):
        for link in [*LINK.finditer(line), *DEFINITION.finditer(line)]:
            target = next(filter(None, link.groups()))
            if re.match(r"[a-z]+:", target) or "::" in target:
                continue
            path, _, anchor = target.partition("#")
            path = os.path.normpath(os.path.join(here, path)) if path else document
            if not path.endswith((".md",)) and "/" not in target and "." not in target and not tree.has(path):
                continue  # rustdoc's own: [`Guard`](Guard)
            if not tree.has(path):
                yield number, f"the link {target} leads nowhere"
            elif anchor and path.endswith(".md") and anchor not in tree.anchors(path):
                yield number, f"{path} has no heading for #{anchor}"
        if document in PAST:
            continue
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", line):
            if is_path(span):
                for path in expand(span):
                    if not tree.names_a_file(path, document):
                        yield number, f"there is no {path}"


SECTION = re.compile(r'([A-Za-z0-9_/.-]+\.md), (?:section |chapter )?"([^"]+)"')
MARK = re.compile(r"^\s*(?://[/!]?|#|\*|/\*)\s?")


def comments(text):
    """The comments of a source: (first line, text), a comment that goes over several lines in one."""
    start, parts = 0, []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        at = line.find("//") if not MARK.match(line) else 0
        if at < 0 or not (MARK.match(line[at:]) or line[at:].startswith("//")):
            if parts:
                yield start, " ".join(parts)
            parts = []
            continue
        if not parts:
            start = number
        parts.append(MARK.sub("", line[at:]).strip())


def check_source(source, tree):
    """What the comments of a source say of sections of documents, and which files they name."""
    for number, text in comments(tree.read(source)):
        for document, section in SECTION.findall(text):
            if not tree.names_a_file(document, source):
                yield number, f"there is no {document}"
            elif tree.has(document) and section not in sections(tree.read(document)):
                yield number, f'{document} has no section "{section}"'
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
            if is_path(span) and span.endswith((".rs", ".md", ".sh", ".py", ".c", ".h", "}")):
                for path in expand(span):
                    if not tree.names_a_file(path, source):
                        yield number, f"there is no {path}"


def sections(text):
    """What a document calls its sections: headings, bold openings of paragraphs, and links to sections elsewhere."""
    heads = re.findall(r"^#+ +(.*)$", text, re.M) + re.findall(r"\*\*([^*]+)\*\*", text)
    return {head.rstrip(".") for head in heads + re.findall(r"\[([^\]]+)\]\([^)]*#", text)}


def self_test():
    files = {
        "README.md": "[a](docs/a.md#one-two) [b](docs/b.md) [c](docs/a.md#three) `src/x.rs` `src/{x,y}.rs` `y.rs`\n"
        "[d]: docs/d.md\n[`a`]: docs/a.md\n[e]: https://e\n"
        "```\n[in a block](nowhere.md) `gone.rs`\n```\n`Type::of` `a/b` `--flag` [`G`](crate::G) `*.rs`\n",
        "docs/a.md": "# One, two!\n",
        "src/x.rs": '//! docs/a.md, "One,\n//! two!", docs/a.md, section "Three", `x.rs` `z.rs`\nlet a = "`q.rs`";\n',
        "Cargo.toml": "",
    }
    tree = Tree(files, files.__getitem__)
    wrong = [words for _, words in check("README.md", tree)]
    assert wrong == [
        "the link docs/b.md leads nowhere",
        "docs/a.md has no heading for #three",
        "there is no src/y.rs",
        "there is no y.rs",
        "the link docs/d.md leads nowhere",
    ], wrong
    wrong = [words for _, words in check_source("src/x.rs", tree)]
    assert wrong == ['docs/a.md has no section "Three"', "there is no z.rs"], wrong


def main():
    self_test()
    if sys.argv[1:] == ["--self-test"]:
        return 0
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True)
    files = [f for f in listed.stdout.splitlines() if os.path.exists(f)]

    def read(path):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    tree, wrong = Tree(files, read), 0
    for file in sorted(files):
        if file.endswith(".md"):
            found = check(file, tree)
        elif file.endswith((".rs", ".c", ".h", ".sh", ".py", ".toml")) and file != "scripts/links.py":
            found = check_source(file, tree)
        else:
            continue
        for number, words in found:
            print(f"{file}:{number}: {words}")
            wrong += 1
    print(f"links.py: {wrong} wrong" if wrong else "links.py: all files and sections that are named are there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
