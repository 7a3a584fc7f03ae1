//! Every parser of this program against inputs that nobody meant: `make fuzz SECONDS=60`.
//!
//! It is compiled into the library's unit tests (`lib.rs` names it), so it needs neither a nightly compiler nor a binary of
//! its own, reaches what rooms keep to themselves, and runs on every processor that `make smoke` emulates.
//!
//! - A **target** (`targets.rs`) reads one input and says what came of it. It may claim more than "no panic": what was
//!   read is written and read again, say.
//! - Its **corpus** is `tests/vectors/fuzz/NAME.txt`: one input a line, escaped as `corpus.rs` says.
//! - The **mutator** (`mutate.rs`) damages, joins and repeats them. Its dice fall alike in every run.
//! - What came of an input stands in for coverage: an input with an outcome that is new is kept and damaged further.
//!
//! `cargo test` makes a few hundred inputs for each target; with `FUZZ_SECONDS` all of them share that many seconds.
//! An input that is fatal is printed as a line for the corpus: mend the parser, and add the line.

mod corpus;
mod mutate;
mod targets;

use mutate::Mutator;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};
use targets::{Target, TARGETS};

/// Inputs of each target where no time is given.
const ROUNDS: usize = 300;
/// Longer inputs are cut.
const LONGEST: usize = 16 * 1024;
/// Inputs with an outcome of their own that are kept.
const MOST_KEPT: usize = 512;
/// No input may take longer, on a busy machine and unoptimised.
const PATIENCE: Duration = Duration::from_secs(5);

struct Run {
    target: &'static Target,
    pool: Vec<Vec<u8>>,
    outcomes: Vec<u64>,
    mutator: Mutator,
    inputs: usize,
}

impl Run {
    fn new(target: &'static Target) -> Run {
        let seeds = corpus::read(target.corpus);
        assert!(!seeds.is_empty(), "{} has no corpus", target.name);
        let mutator = Mutator::new(&seeds);
        let mut run = Run { target, pool: Vec::new(), outcomes: Vec::new(), mutator, inputs: 0 };
        for seed in seeds {
            run.try_input(&seed);
            run.pool.push(seed);
        }
        run
    }

    fn go_on(&mut self, end: Option<Instant>) {
        let enough = |run: &Run| match end {
            Some(end) => Instant::now() >= end,
            None => run.inputs >= ROUNDS,
        };
        while !enough(self) {
            let mut input = self.mutator.mutate(&self.pool);
            input.truncate(LONGEST);
            if self.try_input(&input) && self.pool.len() < MOST_KEPT {
                self.pool.push(input);
            }
        }
    }

    /// Whether its outcome is a new one.
    fn try_input(&mut self, input: &[u8]) -> bool {
        self.inputs += 1;
        let begun = Instant::now();
        let outcome = self.outcome(input);
        // A machine that stalls does not do so twice.
        if begun.elapsed() > PATIENCE {
            let again = Instant::now();
            self.outcome(input);
            let took = again.elapsed();
            assert!(took <= PATIENCE, "{} takes {took:?}: {}", self.target.name, corpus::escaped(input));
        }
        match self.outcomes.binary_search(&outcome) {
            Ok(_) => false,
            Err(at) => {
                self.outcomes.insert(at, outcome);
                true
            }
        }
    }

    fn outcome(&self, input: &[u8]) -> u64 {
        let read = self.target.read;
        catch_unwind(AssertUnwindSafe(|| read(input))).unwrap_or_else(|_| {
            let line = corpus::escaped(input);
            panic!(
                "fatal for {}; as a line of tests/vectors/fuzz/{}.txt:\n{line}",
                self.target.name, self.target.name
            )
        })
    }
}

#[test]
fn no_input_is_fatal_for_a_parser() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map(|text| text.parse::<u32>().expect("FUZZ_SECONDS"));
    let count = u32::try_from(TARGETS.len()).unwrap();
    for target in TARGETS {
        let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()) / count);
        let mut run = Run::new(target);
        run.go_on(end);
        let Run { inputs, outcomes, .. } = run;
        if seconds.is_some() {
            println!("  fuzz {:<16} {inputs:>8} inputs, {} outcomes", target.name, outcomes.len());
        }
    }
}

/// Where a panic ends the process, the process that runs the tests tells of it.
#[cfg(panic = "unwind")]
#[test]
fn a_fatal_input_is_told_as_a_line_of_its_corpus() {
    static FRAGILE: Target =
        Target { name: "fragile", corpus: "# a test\nab\\n", read: |input| u64::from(input[1]) };
    let run = Run::new(&FRAGILE);
    assert_eq!(run.outcomes, [u64::from(b'b')]);
    let told = catch_unwind(|| run.outcome(b"\n")).unwrap_err();
    assert!(told.downcast::<String>().unwrap().ends_with("fuzz/fragile.txt:\n\\n"));
}
