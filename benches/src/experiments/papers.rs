//! What papers claim for their schemes against epoch-based reclamation, beside what is measured here against it.

use super::Experiment;
use crate::Bench;
use crate::report::Table;
use crate::stats::number;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "papers",
    title: "What papers claim against epochs",
    about: "\
Schemes that have no crate to run here, by what their authors say of their throughput beside epoch-based reclamation (EBR); other \
machines, other structures, other epochs, so the columns can't be compared by the digit. For each scheme, and for each of Harris's \
list, the list of Harris, Herlihy and Shavit (HHS), a hash map, and Natarajan and Mittal's tree, a published ratio was looked for. What could \
be read were abstracts, and the artifact that the authors of PEBR, HP-BRCU and CIRC share \
(github.com/kaist-cp/smr-benchmark), which says on which structures they measured, against EBR as well, and holds no results; the \
figures stand in the papers' plots alone. *Not found* means that, and nothing about the figure. \
Below, this project beside crossbeam-epoch, the EBR of this report, in the sections before.

| scheme | source | measured on | claim | list, HHS list, map, tree: x of EBR |
| --- | --- | --- | --- | --- |
| HP-BRCU (and HP-RCU) | Kim, Jung, Kang, \"Expediting hazard pointers with bounded RCU critical sections\" (SPAA \
2024) | Harris's and HHS lists, hash map, skip list, Natarajan and Mittal's tree, against EBR and others (artifact) | \
neither paper nor abstract could be read | not found |
| PEBR | Kang, Jung, \"A marriage of pointer- and epoch-based reclamation\" (PLDI 2020) | Harris's and HHS lists, hash \
map, trees, against EBR and others (artifact) | \"comparably to the state-of-the-art schemes\" (abstract) | not found \
|
| NBR, NBR+ | Singh, Brown, Mashtizadeh, \"NBR: neutralization based reclamation\" (PPoPP 2021, arXiv:2012.14542) | \
binary search tree with locks; lazy list | up to 1.38 x DEBRA (an EBR) on the tree, 1.15 x on the list (abstract) | \
not measured there, as far as the abstract says |
| VBR | Sheffi, Herlihy, Petrank, \"VBR: version based reclamation\" (DISC 2021, arXiv:2107.13843) | linked list, hash \
table, skip list | \"outperforms state-of-the-art existing solutions\", EBR among them; no number (abstract) | not \
found |
| Token-EBR, amortized free | Kim, Brown, Singh, \"Are your epochs too epic? Batch free can be harmful\" (PPoPP 2024, \
arXiv:2401.11347) | (a,b)-tree, 192 threads | 1.5 to 2.6 x the fastest known; 1.2 to 1.5 x freeing nothing (abstract) \
| not measured there, as far as the abstract says |
| CIRC | Jung, Kim, Parkinson, Kang, \"Concurrent immediate reference counting\" (PLDI 2024) | lists, hash map, skip \
list, trees, against EBR and others (artifact) | \"narrows the performance gap\" to the scheme below it, which is EBR \
or hazard pointers: less than 1 (abstract) | not found |
| WFE | Nikolaev, Ravindran, \"Universal wait-free memory reclamation\" (PPoPP 2020) | various | \"close to \
epoch-based reclamation\" (abstract) | not found |
| EpochPOP | \"Publish on ping\" (arXiv:2501.04250) | various | \"uses epochs to approach the performance of \
epoch-based reclamation\"; against hazard pointers 1.2 to 4 x (abstract) | not found |
| SCOT | \"Safe concurrent optimistic traversals\" (arXiv:2504.06254) | Harris's list, Natarajan and Mittal's tree | \
the tree \"comparable to that of EBR\" (abstract); with IBR and Hyaline below it, \"our results almost match those of \
EBR\" (abstract of the second version) | not found |
| Hyaline | Nikolaev, Ravindran, \"Snapshot-free, transparent, and robust memory reclamation for lock-free data \
structures\" (PLDI 2021, arXiv:1905.07903) | various, on x86-64, ARM, PowerPC and MIPS | 1.1 x EBR \"in one test\", 2 \
x with more threads than CPUs (abstract) | not by structure, as far as the abstract says |
| Crystalline | Nikolaev, Ravindran, \"Crystalline: fast and memory efficient wait-free reclamation\" (DISC 2021, \
arXiv:2108.02763) | various | \"superior throughput than typical reclamation schemes such as EBR as the number of \
threads grows\"; no number (abstract) | not found |",
    run,
    job: None,
};

/// Facts of earlier sections: this project's throughput, or its reads' speed, as a multiple of crossbeam-epoch's.
pub(crate) const FACTS: [(&str, &str); 5] = [
    ("x epoch: walk", "a list of 16 nodes walked"),
    ("x epoch: map 64Ki 90/10", "hash map of Harris and Michael's lists, 90/10, all CPUs"),
    ("x epoch: map 64Ki 50/50", "the same, 50/50"),
    ("x epoch: stack", "Treiber's stack, all CPUs"),
    ("x nothing freed: map 64Ki 50/50", "hash map 50/50, all CPUs, beside freeing nothing"),
];

fn run(bench: &mut Bench) {
    let mut measured = Table::new(["measured here", "barrierd, x of crossbeam-epoch"]);
    for (fact, called) in FACTS {
        if let Some(ratio) = bench.facts.get(fact) {
            measured.row([called.to_owned(), number(*ratio)]);
        }
    }
    if !measured.is_empty() {
        bench.report.table("", &measured);
    }
}
