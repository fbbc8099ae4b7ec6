//! The command line.

use crate::effort::Effort;
use lexopt::prelude::*;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: barrierd-bench [--effort smoke|short|full] [--only EXPERIMENT]... [--out DIRECTORY]
                      [--readme FILE] [--barrierd BINARY --run-dir DIRECTORY] [--render]
  --out       where performance.md and performance/ go (default: target/bench)
  --readme    its section between the bench marks is rewritten
  --render    measure nothing: write the pages of the run whose report.jsonl lies in --out once more
  --barrierd  the daemon to start, as root; --run-dir: root's own directory for its files
inside: --job TASK (one configuration, in a process of its own), --file FILE (the daemon's)";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) effort: Effort,
    only: Vec<String>,
    pub(crate) out: PathBuf,
    pub(crate) readme: Option<PathBuf>,
    /// Only to write the pages of a run that is over.
    pub(crate) render: bool,
    pub(crate) barrierd: Option<PathBuf>,
    pub(crate) run_dir: Option<PathBuf>,
    pub(crate) job: Option<String>,
    /// A live daemon's file, in a job.
    pub(crate) file: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse() -> Result<Options, lexopt::Error> {
        let mut options = Options {
            effort: Effort::Short,
            only: Vec::new(),
            out: "target/bench".into(),
            readme: None,
            render: false,
            barrierd: None,
            run_dir: None,
            job: None,
            file: None,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("effort") => {
                    options.effort = parser.value()?.parse_with(|name| {
                        Effort::named(name).ok_or("it is one of smoke, short, full")
                    })?;
                }
                Long("only") => options.only.push(parser.value()?.string()?),
                Long("out") => options.out = parser.value()?.into(),
                Long("readme") => options.readme = Some(parser.value()?.into()),
                Long("render") => options.render = true,
                Long("barrierd") => options.barrierd = Some(parser.value()?.into()),
                Long("run-dir") => options.run_dir = Some(parser.value()?.into()),
                Long("job") => options.job = Some(parser.value()?.string()?),
                Long("file") => options.file = Some(parser.value()?.into()),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
