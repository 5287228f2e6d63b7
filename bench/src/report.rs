//! The figures, each peer's beside the best's.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{
    load::Sample,
    mode::{Better, Figure, Mode},
    stats::Stats,
    tally::Errors,
};

/// All that was measured.
pub(crate) struct Report {
    /// The machine's load before and after.
    pub(crate) load: [String; 2],
    pub(crate) cpus: usize,
    pub(crate) modes: Vec<Measured>,
}

/// A mode's samples, or why there are none.
pub(crate) struct Measured {
    pub(crate) mode: Mode,
    pub(crate) entrants: Result<Vec<Entrant>, String>,
}

/// Whose samples they are.
pub(crate) struct Entrant {
    pub(crate) name: String,
    /// Whether others are compared with it: not with l4way, nor with a peer's second run.
    pub(crate) rival: bool,
    /// One of each round.
    pub(crate) samples: Vec<Sample>,
}

/// A figure of one entrant.
struct Row<'a> {
    entrant: &'a Entrant,
    values: Vec<f64>,
    stats: Stats,
    /// To the best rival, round by round.
    ratio: Option<Stats>,
}

impl Report {
    /// Whether everything was measured, and nothing went wrong.
    pub(crate) fn is_lossless(&self) -> bool {
        self.modes.iter().all(|measured| {
            let entrants = measured.entrants.as_ref();
            entrants.is_ok_and(|entrants| entrants.iter().all(|e| e.errors().is_empty()))
        })
    }

    /// For a person.
    pub(crate) fn table(&self) -> String {
        let [before, after] = &self.load;
        let mut text = format!(
            "{} CPUs, load {before} to {after}. Everyone: 2 workers, TLS 1.3, AES-128-GCM, X25519 \
             (OpenSSL 3.0 has no ML-KEM).\n\
             RATIO: to the best peer (1.00 without an interval), median of the rounds' ratios and \
             its 95 % interval by bootstrap.\n",
            self.cpus
        );
        for measured in &self.modes {
            let _ = write!(text, "\n{}", measured.table());
        }
        text
    }

    /// For a program.
    pub(crate) fn json(&self) -> String {
        let modes: Vec<Value> = self.modes.iter().map(Measured::json).collect();
        let value = json!({"cpus": self.cpus, "load": self.load, "modes": modes});
        format!("{value:#}\n")
    }
}

impl Measured {
    fn table(&self) -> String {
        let Self { mode, entrants } = self;
        let mut text = format!("{mode}: {}\n", mode.description());
        let entrants = match entrants {
            Ok(entrants) => entrants,
            Err(error) => return text + &format!("can't be measured: {error}\n"),
        };
        let header = ["", "", "MEDIAN", "MIN", "Q1", "Q3", "RATIO", "95 %"].map(str::to_owned);
        line(&mut text, &header);
        for (index, figure) in mode.figures().iter().enumerate() {
            for (position, row) in rows(entrants, index, figure).iter().enumerate() {
                line(&mut text, &row.cells(if position == 0 { figure.name } else { "" }));
            }
        }
        text + &errors(entrants)
    }

    fn json(&self) -> Value {
        let Self { mode, entrants } = self;
        let name = mode.to_string();
        let entrants = match entrants {
            Ok(entrants) => entrants,
            Err(error) => return json!({"mode": name, "error": error}),
        };
        let figures = mode.figures().iter().enumerate().map(|(index, figure)| {
            let rows: Vec<Value> = rows(entrants, index, figure).iter().map(Row::json).collect();
            json!({"figure": figure.name, "peers": rows})
        });
        let errors = entrants.iter().map(|entrant| (entrant.name.clone(), json!(entrant.errors())));
        json!({
            "mode": name,
            "description": mode.description(),
            "figures": figures.collect::<Vec<_>>(),
            "errors": errors.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Entrant {
    fn values(&self, figure: usize) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.values.get(figure).copied()).collect()
    }

    fn errors(&self) -> Errors {
        let mut sum = Errors::new();
        for (what, count) in self.samples.iter().flat_map(|sample| &sample.errors) {
            *sum.entry(what.clone()).or_default() += count;
        }
        sum
    }
}

/// The rows of a figure, in the order of the entrants.
fn rows<'a>(entrants: &'a [Entrant], index: usize, figure: &Figure) -> Vec<Row<'a>> {
    let row = |entrant: &'a Entrant| {
        let values = entrant.values(index);
        Row { entrant, stats: Stats::new(values.clone()), values, ratio: None }
    };
    let mut rows: Vec<Row<'a>> = entrants.iter().map(row).collect();
    if let Some(best) = best(&rows, figure.better).map(|row| row.values.clone()) {
        for row in &mut rows {
            let ratios = row.values.iter().zip(&best).map(|(own, best)| own / best);
            row.ratio = Some(Stats::new(ratios.collect()));
        }
    }
    rows
}

/// The rival with the best median.
fn best<'r, 'a>(rows: &'r [Row<'a>], better: Better) -> Option<&'r Row<'a>> {
    let rivals = rows.iter().filter(|row| row.entrant.rival);
    let by_median = |a: &&Row<'_>, b: &&Row<'_>| a.stats.median().total_cmp(&b.stats.median());
    match better {
        Better::More => rivals.max_by(by_median),
        Better::Less => rivals.min_by(by_median),
        Better::Neither => None,
    }
}

impl Row<'_> {
    fn cells(&self, figure: &str) -> [String; 8] {
        let Self { entrant, stats, ratio, .. } = self;
        let (ratio, interval) = match ratio {
            None => Default::default(),
            Some(ratio) => {
                let (low, high) = ratio.interval();
                let interval = format!("{low:.2}-{high:.2}");
                let is_best = (low, high) == (1.0, 1.0);
                (format!("{:.2}", ratio.median()), if is_best { String::new() } else { interval })
            }
        };
        [
            figure.to_owned(),
            entrant.name.clone(),
            number(stats.median()),
            number(stats.min()),
            number(stats.lower_quartile()),
            number(stats.upper_quartile()),
            ratio,
            interval,
        ]
    }

    fn json(&self) -> Value {
        let Self { entrant, values, stats, ratio } = self;
        let ratio = ratio.as_ref().map(|ratio| {
            let (low, high) = ratio.interval();
            json!({"median": ratio.median(), "low": low, "high": high})
        });
        json!({
            "peer": entrant.name,
            "median": stats.median(),
            "min": stats.min(),
            "lowerQuartile": stats.lower_quartile(),
            "upperQuartile": stats.upper_quartile(),
            "ratio": ratio,
            "rounds": values,
        })
    }
}

fn line(text: &mut String, cells: &[String; 8]) {
    let [figure, name, median, min, q1, q3, ratio, interval] = cells;
    let line = format!(
        "{figure:<18} {name:<14} {median:>8} {min:>8} {q1:>8} {q3:>8} {ratio:>6} {interval:>10}"
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

fn errors(entrants: &[Entrant]) -> String {
    let mut text = String::new();
    for entrant in entrants {
        for (what, count) in entrant.errors() {
            let _ = writeln!(text, "errors of {}: {count} x {what}", entrant.name);
        }
    }
    if text.is_empty() { "no errors\n".to_owned() } else { text }
}

/// With three digits that count, or as a whole number.
fn number(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(name: &str, rival: bool, rates: [f64; 3]) -> Entrant {
        let sample = |rate: f64| {
            let mut values = vec![1.0; Mode::TlsBulk.figures().len()];
            (values[0], values[1]) = (rate, 1e3 / rate);
            Sample { values, errors: Errors::new() }
        };
        Entrant { name: name.to_owned(), rival, samples: rates.map(sample).into() }
    }

    fn entrants() -> Vec<Entrant> {
        vec![
            entrant("slow", true, [50.0, 60.0, 70.0]),
            entrant("fast", true, [100.0, 200.0, 100.0]),
            entrant("l4way", false, [200.0, 220.0, 110.0]),
        ]
    }

    fn report(entrants: Vec<Entrant>) -> Report {
        let modes = vec![Measured { mode: Mode::TlsBulk, entrants: Ok(entrants) }];
        Report { load: ["0.10".to_owned(), "1.90".to_owned()], cpus: 2, modes }
    }

    /// The medians' ratio would be 2.0.
    #[test]
    fn ratios_are_of_rounds_to_the_best_rival() {
        let entrants = entrants();
        for (index, better, ratio) in [(0, Better::More, 1.1), (1, Better::Less, 1.0 / 1.1)] {
            let figure = Figure { name: "", better };
            let rows = rows(&entrants, index, &figure);
            assert_eq!(rows[1].ratio.as_ref().unwrap().interval(), (1.0, 1.0));
            let median = rows[2].ratio.as_ref().unwrap().median();
            assert!((median - ratio).abs() < 1e-9, "{median}");
        }
        let neither = Figure { name: "", better: Better::Neither };
        assert!(rows(&entrants, 0, &neither).iter().all(|row| row.ratio.is_none()));
    }

    #[test]
    fn a_table_has_a_row_for_each_entrant() {
        let text = report(entrants()).table();
        let rows: Vec<String> =
            text.lines().map(|line| Vec::from_iter(line.split_whitespace()).join(" ")).collect();
        for row in ["MB/s slow 60.0 50.0 55.0 65.0 0.50 0.30-0.70", "fast 100 100 100 150 1.00"] {
            assert!(rows.iter().any(|line| line == row), "{text}");
        }
        assert!(text.ends_with("no errors\n"), "{text}");
    }

    #[test]
    fn what_went_wrong_is_told() {
        let mut entrants = entrants();
        for sample in &mut entrants[0].samples[1..] {
            sample.errors.insert("a reset".to_owned(), 2);
        }
        let lossy = report(entrants);
        assert!(!lossy.is_lossless());
        assert!(lossy.table().ends_with("errors of slow: 4 x a reset\n"));
        let json: Value = serde_json::from_str(&lossy.json()).unwrap();
        assert_eq!(json["modes"][0]["errors"]["slow"]["a reset"], 4);

        let mut failed = report(self::entrants());
        assert!(failed.is_lossless());
        failed.modes[0].entrants = Err("nothing was done".to_owned());
        assert!(!failed.is_lossless());
        assert!(failed.table().contains("can't be measured: nothing was done\n"));
    }
}
