//! The figures, each peer's beside the best's.

mod markdown;
mod picture;
mod table;

use serde_json::{Value, json};

use crate::{
    load::Sample,
    mode::{Better, Figure, Mode},
    peer::Peer,
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

/// A mode's samples.
pub(crate) struct Measured {
    pub(crate) mode: Mode,
    pub(crate) entrants: Vec<Entrant>,
}

/// Whose samples they are.
pub(crate) struct Entrant {
    pub(crate) peer: Peer,
    /// Whether it is the peer's second run, which only shows noise.
    pub(crate) again: bool,
    /// One of each round.
    pub(crate) samples: Vec<Sample>,
    /// Why it can't be measured.
    pub(crate) fault: Option<String>,
}

/// A figure of one entrant.
struct Row<'a> {
    entrant: &'a Entrant,
    values: Vec<f64>,
    stats: Stats,
    /// To the best rival, round by round.
    ratio: Option<Stats>,
    /// To NAT written by hand, if it goes through the kernel too.
    nat: Option<Stats>,
    /// To the l4way before it, if there is one.
    before: Option<Stats>,
}

/// An interval that is wider doesn't tell whether something became slower.
const WIDEST: f64 = 0.08;
/// What has this ratio to what was before is as fast as that.
const AS_FAST: f64 = 0.98;

impl Report {
    /// Whether everything was measured, and nothing went wrong.
    pub(crate) fn is_lossless(&self) -> bool {
        let mut entrants = self.modes.iter().flat_map(|measured| &measured.entrants);
        entrants.all(Entrant::is_lossless)
    }

    /// Whether no mode is shown to be slower than before.
    pub(crate) fn is_as_fast_as_before(&self) -> bool {
        let shown = |measured: &Measured| {
            let Some(figure) = measured.mode.figures().first() else { return true };
            let rows = measured.rows(0, figure);
            rows.iter().filter_map(|row| row.before.as_ref()).all(|ratio| is_as_fast(ratio, figure))
        };
        self.modes.iter().all(shown)
    }

    /// For a program.
    pub(crate) fn json(&self) -> String {
        let modes: Vec<Value> = self.modes.iter().map(Measured::json).collect();
        let value = json!({"cpus": self.cpus, "load": self.load, "modes": modes});
        format!("{value:#}\n")
    }

    /// What a reader has to know of all figures.
    fn notes(&self) -> String {
        let [before, after] = &self.load;
        format!(
            "{} CPUs, load {before} to {after}. Everyone: 2 workers, TLS 1.3, AES-128-GCM, X25519 \
             (OpenSSL 3.0 has no ML-KEM).\n\
             RATIO: to the best of HAProxy, nginx and Envoy (1.00 without an interval), of those \
             without errors if there are any; OF NAT: a kernel path's to nftables. Medians of the \
             rounds' ratios and their 95 % intervals by bootstrap.\n\
             Gateway CPU: of its processes. Machine CPU: all that isn't idle, with clients, backends \
             and the kernel, which is all that a kernel path has.\n",
            self.cpus
        )
    }
}

impl Measured {
    fn json(&self) -> Value {
        let figures = self.mode.figures().iter().enumerate().map(|(index, figure)| {
            let rows: Vec<Value> = self.rows(index, figure).iter().map(Row::json).collect();
            json!({"figure": figure.name, "peers": rows})
        });
        let entrants = self.entrants.iter();
        let errors = entrants.clone().map(|entrant| (entrant.name(), json!(entrant.errors())));
        let faults =
            entrants.filter_map(|entrant| Some((entrant.name(), json!(entrant.fault.as_ref()?))));
        json!({
            "mode": self.mode.to_string(),
            "description": self.mode.description(),
            "figures": figures.collect::<Vec<_>>(),
            "errors": errors.collect::<serde_json::Map<_, _>>(),
            "faults": faults.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// The rows of a figure, in the order of the entrants that have it.
    fn rows(&self, index: usize, figure: &Figure) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> =
            self.entrants.iter().filter_map(|entrant| Row::new(entrant, index)).collect();
        if figure.better == Better::Neither {
            return rows;
        }
        let best = best(&rows, figure.better).map(|row| row.values.clone());
        let nat = rows.iter().find(|row| row.entrant.peer == Peer::Nftables);
        let nat = nat.map(|row| row.values.clone());
        let of = |peer| rows.iter().find(|row: &&Row<'_>| row.entrant.peer == peer);
        let before: Vec<_> =
            rows.iter().map(|row| Some(of(row.entrant.peer.before()?)?.values.clone())).collect();
        for (row, before) in rows.iter_mut().zip(before) {
            row.before = before.map(|before| row.ratio_to(&before));
            row.ratio = best.as_ref().map(|best| row.ratio_to(best));
            row.nat = nat
                .as_ref()
                .filter(|_| row.entrant.peer.is_kernel_path())
                .map(|nat| row.ratio_to(nat));
        }
        rows
    }

    /// How each figure compares with what it was before, a line for each peer.
    fn comparisons(&self) -> Vec<String> {
        let mut lines: Vec<(Peer, String)> = Vec::new();
        for (index, figure) in self.mode.figures().iter().enumerate() {
            for row in self.rows(index, figure) {
                let (Some(ratio), peer) = (&row.before, row.entrant.peer) else { continue };
                let (median, (low, high)) = (ratio.median(), ratio.interval());
                // A kernel path's process may use no CPU at all.
                if !(low.is_finite() && high.is_finite()) {
                    continue;
                }
                let mut text = format!("{} {median:.3} ({low:.3}-{high:.3})", figure.name);
                if index == 0 && !is_as_fast(ratio, figure) {
                    text += " WORSE";
                }
                match lines.iter_mut().find(|(of, _)| *of == peer) {
                    Some((_, line)) => *line += &format!(", {text}"),
                    None => {
                        let rounds = row.values.len();
                        lines.push((peer, format!("{peer} to before, {rounds} rounds: {text}")));
                    }
                }
            }
        }
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// What went wrong, a line for each kind.
    fn wrongs(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entrant in &self.entrants {
            let name = entrant.name();
            if let Some(fault) = &entrant.fault {
                lines.push(format!("{name} can't be measured: {}", fault.trim_end()));
            }
            let errors = entrant.errors().into_iter();
            lines.extend(errors.map(|(what, count)| format!("errors of {name}: {count} x {what}")));
        }
        lines
    }
}

impl Entrant {
    pub(crate) fn new(peer: Peer, again: bool) -> Self {
        Self { peer, again, samples: Vec::new(), fault: None }
    }

    fn name(&self) -> String {
        format!("{}{}", self.peer, if self.again { " again" } else { "" })
    }

    /// Whether others are compared with it: not with l4way, nor with a peer's second run.
    fn is_rival(&self) -> bool {
        self.peer.is_rival() && !self.again
    }

    fn is_lossless(&self) -> bool {
        self.fault.is_none() && self.samples.iter().all(|sample| sample.errors.is_empty())
    }

    fn errors(&self) -> Errors {
        let mut sum = Errors::new();
        for (what, count) in self.samples.iter().flat_map(|sample| &sample.errors) {
            *sum.entry(what.clone()).or_default() += count;
        }
        sum
    }
}

/// The rival with the best median, of those without errors if there are any.
fn best<'r, 'a>(rows: &'r [Row<'a>], better: Better) -> Option<&'r Row<'a>> {
    let rank = |row: &&Row<'_>| {
        let median = row.stats.median();
        (row.entrant.is_lossless(), if better == Better::Less { -median } else { median })
    };
    let rivals = rows.iter().filter(|row| row.entrant.is_rival());
    rivals.max_by(|a, b| {
        let ((a_lossless, a), (b_lossless, b)) = (rank(a), rank(b));
        a_lossless.cmp(&b_lossless).then(a.total_cmp(&b))
    })
}

impl<'a> Row<'a> {
    fn new(entrant: &'a Entrant, figure: usize) -> Option<Self> {
        let samples = entrant.samples.iter().filter(|_| entrant.fault.is_none());
        let values: Vec<f64> =
            samples.filter_map(|sample| sample.values.get(figure).copied().flatten()).collect();
        let stats = (!values.is_empty()).then(|| Stats::new(values.clone()))?;
        Some(Self { entrant, stats, values, ratio: None, nat: None, before: None })
    }

    fn ratio_to(&self, others: &[f64]) -> Stats {
        Stats::new(self.values.iter().zip(others).map(|(own, other)| own / other).collect())
    }

    fn json(&self) -> Value {
        let Self { entrant, values, stats, ratio, nat, before } = self;
        let compared = |ratio: &Option<Stats>| {
            ratio.as_ref().map(|ratio| {
                let (low, high) = ratio.interval();
                json!({"median": ratio.median(), "low": low, "high": high})
            })
        };
        json!({
            "peer": entrant.name(),
            "median": stats.median(),
            "min": stats.min(),
            "lowerQuartile": stats.lower_quartile(),
            "upperQuartile": stats.upper_quartile(),
            "ratio": compared(ratio),
            "ratioToNat": compared(nat),
            "ratioToBefore": compared(before),
            "rounds": values,
        })
    }
}

/// The entrants whose ratio to what was before isn't known well enough, with those before them.
pub(crate) fn blurred(mode: Mode, entrants: &[Entrant]) -> Vec<usize> {
    let Some(figure) = mode.figures().first().filter(|_| !mode.is_idle()) else {
        return Vec::new();
    };
    let position =
        |peer| entrants.iter().position(|entrant| entrant.peer == peer && !entrant.again);
    let row = |index: usize| Row::new(&entrants[index], 0);
    let pairs = entrants.iter().enumerate().filter_map(|(index, entrant)| {
        let before = position(entrant.peer.before()?)?;
        let ratio = row(index)?.ratio_to(&row(before)?.values);
        let (low, high) = ratio.interval();
        (high - low > WIDEST || !is_as_fast(&ratio, figure)).then_some([index, before])
    });
    pairs.flatten().collect()
}

/// Whether the interval of a figure's ratio to what it was before leaves room for as good as before.
fn is_as_fast(ratio: &Stats, figure: &Figure) -> bool {
    let (low, high) = ratio.interval();
    match figure.better {
        Better::More => high >= AS_FAST,
        Better::Less => low <= 1.0 / AS_FAST,
        Better::Neither => true,
    }
}

/// A ratio and its interval, which what is compared with itself doesn't have.
fn ratio_cells(ratio: Option<&Stats>) -> [String; 2] {
    let Some(ratio) = ratio else { return Default::default() };
    let (low, high) = ratio.interval();
    let is_itself = (low, high) == (1.0, 1.0);
    let interval = if is_itself { String::new() } else { format!("{low:.2}-{high:.2}") };
    [format!("{:.2}", ratio.median()), interval]
}

/// With three digits that count, or as a whole number.
fn number(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entrant(peer: Peer, rates: [f64; 3]) -> Entrant {
        let sample = |rate: f64| {
            let mut values = vec![Some(1.0); Mode::TcpBulk.figures().len()];
            let gateway = (!matches!(peer, Peer::Nftables)).then_some(1e3 / rate);
            (values[0], values[1]) = (Some(rate), gateway);
            Sample { values, errors: Errors::new() }
        };
        Entrant { samples: rates.map(sample).into(), ..Entrant::new(peer, false) }
    }

    pub(super) fn entrants() -> Vec<Entrant> {
        vec![
            entrant(Peer::Nftables, [400.0, 400.0, 200.0]),
            entrant(Peer::HAProxy, [50.0, 60.0, 70.0]),
            entrant(Peer::Nginx, [100.0, 200.0, 100.0]),
            entrant(Peer::L4way, [200.0, 220.0, 110.0]),
            entrant(Peer::L4wayKernel, [380.0, 360.0, 190.0]),
        ]
    }

    pub(super) fn report(entrants: Vec<Entrant>) -> Report {
        let modes = vec![Measured { mode: Mode::TcpBulk, entrants }];
        Report { load: ["0.10".to_owned(), "1.90".to_owned()], cpus: 2, modes }
    }

    fn median(ratio: Option<&Stats>) -> Option<f64> {
        ratio.map(|ratio| (ratio.median() * 1e3).round() / 1e3)
    }

    /// The medians' ratio would be 2.0.
    #[test]
    fn ratios_are_of_rounds_to_the_best_rival() {
        let report = report(entrants());
        let rows = report.modes[0].rows(0, &Figure { name: "", better: Better::More });
        assert_eq!(rows[2].ratio.as_ref().unwrap().interval(), (1.0, 1.0));
        assert_eq!(median(rows[3].ratio.as_ref()), Some(1.1));
        let rows = report.modes[0].rows(1, &Figure { name: "", better: Better::Less });
        assert_eq!(rows.len(), 4, "the rules have no process");
        assert_eq!(median(rows[2].ratio.as_ref()), Some(0.909));
        let rows = report.modes[0].rows(0, &Figure { name: "", better: Better::Neither });
        assert!(rows.iter().all(|row| row.ratio.is_none() && row.nat.is_none()));
    }

    #[test]
    fn kernel_paths_are_compared_with_nat_too() {
        let report = report(entrants());
        let rows = report.modes[0].rows(0, &Figure { name: "", better: Better::More });
        let nat: Vec<_> = rows.iter().map(|row| median(row.nat.as_ref())).collect();
        assert_eq!(nat, [Some(1.0), None, None, None, Some(0.95)]);
    }

    #[test]
    fn what_was_before_is_compared_round_by_round() {
        let compared = |now: [f64; 3]| {
            let entrants =
                vec![entrant(Peer::L4way, now), entrant(Peer::L4wayBefore, [200.0, 220.0, 110.0])];
            let blurred = blurred(Mode::TcpBulk, &entrants);
            (report(entrants), blurred)
        };
        let (same, blurred) = compared([202.0, 220.0, 108.9]);
        assert!(same.is_as_fast_as_before() && blurred.is_empty());
        let lines = same.modes[0].comparisons();
        assert!(lines[0].starts_with("l4way to before, 3 rounds: MB/s 1.000 (0.990-1.010), "));
        let (slower, blurred) = compared([180.0, 200.0, 100.0]);
        assert!(!slower.is_as_fast_as_before());
        assert_eq!(blurred, [0, 1], "more rounds may show that it isn't");
        assert!(slower.modes[0].comparisons()[0].contains(" WORSE"));
        let (wide, blurred) = compared([180.0, 220.0, 120.0]);
        assert!(wide.is_as_fast_as_before());
        assert_eq!(blurred, [0, 1]);
        assert!(super::blurred(Mode::TcpBulk, &entrants()).is_empty());
    }

    #[test]
    fn who_loses_is_not_the_best() {
        let mut report = report(entrants());
        let lose = |entrant: &mut Entrant| {
            entrant.samples[0].errors.insert("a reset".to_owned(), 2);
        };
        let best = |report: &Report| {
            let rows = report.modes[0].rows(0, &Figure { name: "", better: Better::More });
            super::best(&rows, Better::More).unwrap().entrant.peer
        };
        lose(&mut report.modes[0].entrants[2]);
        assert_eq!(best(&report), Peer::HAProxy);
        lose(&mut report.modes[0].entrants[1]);
        assert_eq!(best(&report), Peer::Nginx);
    }

    #[test]
    fn what_went_wrong_is_told() {
        let mut lossy = report(entrants());
        assert!(lossy.is_lossless());
        for sample in &mut lossy.modes[0].entrants[1].samples[1..] {
            sample.errors.insert("a reset".to_owned(), 2);
        }
        assert!(!lossy.is_lossless());
        assert_eq!(lossy.modes[0].wrongs(), ["errors of haproxy: 4 x a reset"]);
        let json: Value = serde_json::from_str(&lossy.json()).unwrap();
        assert_eq!(json["modes"][0]["errors"]["haproxy"]["a reset"], 4);

        let mut failed = report(entrants());
        failed.modes[0].entrants[1].fault = Some("nothing was done\n".to_owned());
        assert!(!failed.is_lossless());
        assert_eq!(failed.modes[0].wrongs(), ["haproxy can't be measured: nothing was done"]);
        assert_eq!(failed.modes[0].rows(0, &Mode::TcpBulk.figures()[0]).len(), 4);
    }
}
