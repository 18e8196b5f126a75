//! `loadtest prices curves`: the cost of a send by number of clients, and of a price by number of
//! symbols, as figures and charts.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{
    LoadOptions, Summary,
    capacity::Shape,
    contender::{Kind, Mode},
    hot::{self, Point},
    picture::{self, Curve},
    session::Session,
    window::{Window, print_head, print_window},
};
use crate::{
    error::{Context, Result},
    phase::Interrupt,
};

/// Clients of the second curve, and the share of all symbols that each watches: a change goes to the
/// same number of clients regardless of the number of symbols.
const CLIENTS: usize = 1_000;
const WATCHED_PART: usize = 10;
/// Speed and window of the first measurement of the rate of changes.
const PROBE: (f64, f64) = (1.0, 2.0);
const PROBES: usize = 2;

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CurvesArgs {
    /// Numbers of clients of the first curve
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,5000,10000,19000",
        value_name = "COUNTS"
    )]
    clients: Vec<usize>,
    /// Prints per second of the symbol of the first curve
    #[arg(long, default_value_t = 20_000.0, value_name = "RATE")]
    print_rate: f64,
    /// Numbers of symbols of the second curve
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,7000", value_name = "COUNTS")]
    symbols: Vec<usize>,
    /// Prices per second to all clients of the second curve together
    #[arg(long, default_value_t = 50_000.0, value_name = "RATE")]
    price_rate: f64,
    /// Directory for the charts
    #[arg(long, default_value = "docs", value_name = "DIR")]
    pictures: PathBuf,
}

/// One number of symbols of the second curve.
#[derive(Debug)]
struct SymbolsPoint {
    symbols: usize,
    windows: Vec<Window>,
}

/// Runs the scenario, prints its report and draws the charts.
///
/// # Errors
/// Whatever stops a session early, or a chart that cannot be written.
pub(super) fn run(
    arguments: &CurvesArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    fs::create_dir_all(&arguments.pictures)
        .context(&format!("making {}", arguments.pictures.display()))?;
    let mut by_clients: Vec<Point> = Vec::new();
    for clients in &arguments.clients {
        by_clients.push(hot::measure(*clients, arguments.print_rate, options, interrupt)?);
    }
    println!(
        "\n{CLIENTS} clients, each with a {WATCHED_PART}th of all symbols, at the speed that gives \
         them {} prices a second together\n",
        arguments.price_rate
    );
    print_head("round, symbols");
    let mut by_symbols: Vec<SymbolsPoint> = arguments
        .symbols
        .iter()
        .map(|symbols| SymbolsPoint { symbols: *symbols, windows: Vec::new() })
        .collect();
    for round in 1..=options.rounds {
        for point in &mut by_symbols {
            let window = measure(point.symbols, arguments.price_rate, options, interrupt)?;
            print_window(&format!("{round}, {}", point.symbols), &window, "");
            point.windows.push(window);
        }
    }
    print_end(&by_clients, &by_symbols);
    draw(arguments, &by_clients, &by_symbols)?;
    Ok(json!({
        "scenario": "curves",
        "byClients": by_clients.iter().map(Point::to_json).collect::<Vec<_>>(),
        "bySymbols": by_symbols.iter().map(SymbolsPoint::to_json).collect::<Vec<_>>(),
    }))
}

/// Measures one window with about the requested rate of prices.
fn measure(
    symbols: usize,
    price_rate: f64,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Window> {
    let shape =
        Shape { clients: CLIENTS, symbols, symbols_per_client: (symbols / WATCHED_PART).max(1) };
    let mut session = Session::start(Kind::Longbow, options, symbols, interrupt)?;
    session.connect(options, shape.clients(Mode::Latest))?;
    let mut speed = PROBE.0;
    // The beginning of a session is not typical: the second measurement corrects the first.
    for _ in 0..PROBES {
        session.set_speed(speed)?;
        interrupt.sleep(options.warm_up)?;
        speed *= price_rate / session.window(PROBE.1)?.delivered_per_second().max(1.0);
    }
    session.set_speed(speed)?;
    interrupt.sleep(options.warm_up)?;
    session.window(options.seconds)
}

impl SymbolsPoint {
    fn summary(&self, figure: fn(&Window) -> f64) -> Summary {
        Summary::of(self.windows.iter().map(figure))
    }

    fn to_json(&self) -> Value {
        json!({
            "symbols": self.symbols,
            "senderCpuMicrosPerPrice": self.summary(Window::sender_micros_per_price).to_json(),
            "senderCpuMicrosPerSend": self.summary(Window::sender_micros).to_json(),
            "pricesPerSecond": self.summary(Window::delivered_per_second).to_json(),
            "windows": self.windows.iter().map(Window::to_json).collect::<Vec<_>>(),
        })
    }
}

fn print_end(by_clients: &[Point], by_symbols: &[SymbolsPoint]) {
    println!("\n{:>8} {:>16} {:>16}", "clients", "us/send", "us/send, bare");
    for point in by_clients {
        println!(
            "{:>8} {:>16.3} {:>16.3}",
            point.clients,
            point.server.sender_micros.unwrap_or(f64::NAN),
            point.bare.sender_micros.unwrap_or(f64::NAN)
        );
    }
    println!("\n{:>8} {:>24} {:>24} {:>24}", "symbols", "us/price", "us/send", "prices/s");
    for point in by_symbols {
        println!(
            "{:>8} {:>24} {:>24} {:>24}",
            point.symbols,
            point.summary(Window::sender_micros_per_price).text(3),
            point.summary(Window::sender_micros).text(3),
            point.summary(Window::delivered_per_second).text(0),
        );
    }
}

fn draw(arguments: &CurvesArgs, by_clients: &[Point], by_symbols: &[SymbolsPoint]) -> Result<()> {
    let of_clients = |figure: fn(&Point) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = by_clients.iter();
        points.filter_map(|point| Some((point.clients as f64, figure(point)?))).collect()
    };
    picture::draw(
        &arguments.pictures.join("cpu-per-send-by-clients.svg"),
        "CPU time per send, one symbol that all clients watch",
        ("clients", "microseconds"),
        &[
            Curve { name: "Longbow", points: of_clients(|point| point.server.sender_micros) },
            Curve {
                name: "bare send() loop",
                points: of_clients(|point| point.bare.sender_micros),
            },
        ],
    )?;
    let of_symbols = |figure: fn(&Window) -> f64| -> Vec<(f64, f64)> {
        let points = by_symbols.iter();
        points.map(|point| (point.symbols as f64, point.summary(figure).median)).collect()
    };
    picture::draw(
        &arguments.pictures.join("cpu-per-price-by-symbols.svg"),
        "CPU time at the same rate of price changes, 1,000 clients",
        ("symbols", "microseconds"),
        &[
            Curve { name: "per price", points: of_symbols(Window::sender_micros_per_price) },
            Curve { name: "per send", points: of_symbols(Window::sender_micros) },
        ],
    )
}
