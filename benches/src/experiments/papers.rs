//! What papers claim for their schemes against epoch-based reclamation, beside what is measured here against it.

use super::Experiment;
use crate::Bench;
use crate::report::Table;
use crate::stats::number;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "papers",
    title: "What papers claim against epochs",
    about: "\
Schemes that have no crate to run here, by what their authors say of their throughput beside epoch-based reclamation (EBR), as \
the abstracts have it; other machines, other structures, other epochs, so the columns can't be compared by the digit. \
Below, this project beside crossbeam-epoch, the EBR of this report, in the sections before.",
    run,
    job: None,
};

/// Scheme; where it was published; on what; what is claimed, 1 being as fast as what it is compared with.
const CLAIMS: [[&str; 4]; 8] = [
    [
        "PEBR",
        "Kang, Jung, \"A marriage of pointer- and epoch-based reclamation\" (PLDI 2020)",
        "lists of Harris and of Harris, Herlihy and Shavit; others",
        "\"comparably to the state-of-the-art schemes\"",
    ],
    [
        "NBR, NBR+",
        "Singh, Brown, Mashtizadeh, \"NBR: neutralization based reclamation\" (PPoPP 2021, arXiv:2012.14542)",
        "tree with locks; lazy list",
        "up to 1.38 x DEBRA (an EBR); 1.15 x",
    ],
    [
        "VBR",
        "Sheffi, Herlihy, Petrank, \"VBR: version based reclamation\" (DISC 2021)",
        "list, hash table, skip list",
        "\"outperforms state-of-the-art existing solutions\"; no number in the abstract",
    ],
    [
        "WFE",
        "Nikolaev, Ravindran, \"Universal wait-free memory reclamation\" (PPoPP 2020)",
        "various",
        "\"close to epoch-based reclamation\"",
    ],
    [
        "Token-EBR, amortized free",
        "Kim, Brown, Singh, \"Are your epochs too epic? Batch free can be harmful\" (PPoPP 2024, arXiv:2401.11347)",
        "(a,b)-tree, 192 threads",
        "1.5 to 2.6 x the fastest known; 1.2 to 1.5 x freeing nothing",
    ],
    [
        "CIRC",
        "Jung, Kim, Parkinson, Kang, \"Concurrent immediate reference counting\" (PLDI 2024)",
        "various",
        "\"narrows the performance gap\" to the scheme below it: less than 1",
    ],
    [
        "HP-BRCU",
        "Kim, Jung, Kang, \"Expediting hazard pointers with bounded RCU critical sections\" (SPAA 2024)",
        "lists, hash map, Natarajan and Mittal's tree",
        "(no figure that could be read without the paper)",
    ],
    [
        "SCOT",
        "\"Safe concurrent optimistic traversals\"",
        "Harris's list, Natarajan and Mittal's tree",
        "\"comparable to that of EBR\"",
    ],
];

/// Facts of earlier sections: this project's throughput, or its reads' speed, as a multiple of crossbeam-epoch's.
pub(crate) const FACTS: [(&str, &str); 5] = [
    ("x epoch: walk", "a list of 16 nodes walked"),
    ("x epoch: map 64Ki 90/10", "hash map of Harris and Michael's lists, 90/10, all CPUs"),
    ("x epoch: map 64Ki 50/50", "the same, 50/50"),
    ("x epoch: stack", "Treiber's stack, all CPUs"),
    ("x nothing freed: map 64Ki 50/50", "hash map 50/50, all CPUs, beside freeing nothing"),
];

fn run(bench: &mut Bench) {
    let mut claims = Table::new(["scheme", "source", "on", "claim"]);
    CLAIMS.iter().for_each(|claim| claims.row(*claim));
    bench.report.table("Claims", &claims);
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
