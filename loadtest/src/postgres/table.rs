//! Prints windows as a table.

use serde_json::{Value, json};

use super::{contender::Kind, window::Window};
use crate::prices::Summary;

/// Prints the head of the table.
pub(super) fn print_head() {
    println!(
        "\n{:>5} {:<10} {:>6} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>6} {:>7}  answers",
        "round",
        "contender",
        "flight",
        "orders/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "server",
        "postgr.",
        "exchan.",
        "client",
        "steal",
        "behind"
    );
    println!("{:>66} {:>31} {:>6} {:>7}", "", "CPU, % of a core", "%", "s");
}

/// Prints a window as a line of the table.
pub(super) fn print_window(round: &str, window: &Window) {
    let answers: Vec<String> = window
        .seen
        .all_answers
        .iter()
        .map(|(status, count)| format!("{status}: {count}"))
        .collect();
    let [server, postgres, exchange, client] = window.cores().map(|cores| cores * 100.0);
    let behind = window.behind_seconds().map_or("-".to_owned(), |seconds| format!("{seconds:.2}"));
    println!(
        "{round:>5} {:<10} {:>6} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {server:>7.1} {postgres:>7.1} \
         {exchange:>7.1} {client:>7.1} {:>6.2} {behind:>7}  {}",
        window.kind,
        window.load.in_flight,
        window.accepted_per_second(),
        window.millis(0.5),
        window.millis(0.99),
        window.millis(1.0),
        window.steal() * 100.0,
        answers.join(", ")
    );
    for example in &window.seen.examples {
        println!("      answer: {example}");
    }
}

/// The windows of several rounds; each round has one per contender.
#[derive(Debug, Default)]
pub(super) struct Rounds(Vec<Vec<Window>>);

impl Rounds {
    /// Adds a round.
    pub(super) fn add(&mut self, windows: Vec<Window>) {
        self.0.push(windows);
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Window> {
        self.0.iter().flatten().filter(move |window| window.kind == kind)
    }

    /// A figure of a contender over all rounds.
    pub(super) fn figure(&self, kind: Kind, of: impl Fn(&Window) -> f64) -> Summary {
        Summary::of(self.of(kind).map(of))
    }

    /// The rate of one contender relative to another's in the same round.
    pub(super) fn ratio(&self, kind: Kind, to: Kind) -> Summary {
        let rate = |round: &[Window], kind| {
            round.iter().find(|window| window.kind == kind).map(Window::accepted_per_second)
        };
        let ratios = self.0.iter().filter_map(|round| Some(rate(round, kind)? / rate(round, to)?));
        Summary::of(ratios)
    }

    /// Prints the medians, minima and maxima of some contenders.
    pub(super) fn print_medians(&self, kinds: &[Kind]) {
        println!("\nmedians of {} rounds (least-most)", self.0.len());
        for &kind in kinds {
            println!(
                "  {kind:<10} {:>24} orders/s, p50 {} ms, p99 {} ms, steal {} %",
                self.figure(kind, Window::accepted_per_second).text(0),
                self.figure(kind, |window| window.millis(0.5)).text(2),
                self.figure(kind, |window| window.millis(0.99)).text(2),
                self.figure(kind, |window| window.steal() * 100.0).text(2),
            );
        }
    }

    /// All windows and the medians of some contenders, as JSON.
    pub(super) fn to_json(&self, kinds: &[Kind]) -> Value {
        let medians = kinds.iter().map(|&kind| {
            json!({
                "contender": kind.to_string(),
                "acceptedPerSecond": self.figure(kind, Window::accepted_per_second).to_json(),
                "p50Millis": self.figure(kind, |window| window.millis(0.5)).to_json(),
                "p99Millis": self.figure(kind, |window| window.millis(0.99)).to_json(),
            })
        });
        let windows = self
            .0
            .iter()
            .zip(1..)
            .flat_map(|(round, number)| round.iter().map(move |window| window.to_json(number)));
        json!({
            "medians": medians.collect::<Vec<_>>(),
            "windows": windows.collect::<Vec<_>>(),
        })
    }
}
