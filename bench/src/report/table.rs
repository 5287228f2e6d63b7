//! The figures for a terminal.

use std::fmt::Write;

use super::{Measured, Report, Row, number, ratio_cells};

/// A figure's name, whose it is, the median, the least, the quartiles, and two ratios with intervals.
type Cells = [String; 10];

impl Report {
    /// For a person.
    pub(crate) fn table(&self) -> String {
        let mut text = self.notes();
        for measured in &self.modes {
            let _ = write!(text, "\n{}", measured.table());
        }
        text
    }
}

impl Measured {
    fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.mode, self.mode.description());
        let header = ["", "", "MEDIAN", "MIN", "Q1", "Q3", "RATIO", "95 %", "OF NAT", "95 %"];
        line(&mut text, &header.map(str::to_owned));
        for (index, figure) in self.mode.figures().iter().enumerate() {
            for (position, row) in self.rows(index, figure).iter().enumerate() {
                line(&mut text, &row.cells(if position == 0 { figure.name } else { "" }));
            }
        }
        for comparison in self.comparisons() {
            let _ = writeln!(text, "{comparison}");
        }
        let wrongs = self.wrongs();
        for wrong in &wrongs {
            let _ = writeln!(text, "{wrong}");
        }
        if wrongs.is_empty() { text + "no errors\n" } else { text }
    }
}

impl Row<'_> {
    fn cells(&self, figure: &str) -> Cells {
        let [ratio, interval] = ratio_cells(self.ratio.as_ref());
        let [nat, nat_interval] = ratio_cells(self.nat.as_ref());
        [
            figure.to_owned(),
            self.entrant.name(),
            number(self.stats.median()),
            number(self.stats.min()),
            number(self.stats.lower_quartile()),
            number(self.stats.upper_quartile()),
            ratio,
            interval,
            nat,
            nat_interval,
        ]
    }
}

fn line(text: &mut String, cells: &Cells) {
    let [figure, name, median, min, q1, q3, ratio, interval, nat, nat_interval] = cells;
    let line = format!(
        "{figure:<18} {name:<17} {median:>8} {min:>8} {q1:>8} {q3:>8} {ratio:>6} {interval:>10} \
         {nat:>6} {nat_interval:>10}"
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use crate::report::tests::{entrants, report};

    #[test]
    fn a_table_has_a_row_for_each_entrant() {
        let text = report(entrants()).table();
        let rows: Vec<String> =
            text.lines().map(|line| Vec::from_iter(line.split_whitespace()).join(" ")).collect();
        for row in [
            "haproxy 60.0 50.0 55.0 65.0 0.50 0.30-0.70",
            "nginx 100 100 100 150 1.00",
            "l4way-kernel 360 190 275 370 1.90 1.80-3.80 0.95 0.90-0.95",
        ] {
            assert!(rows.iter().any(|line| line == row), "{text}");
        }
        assert!(text.ends_with("no errors\n"), "{text}");
    }

    #[test]
    fn errors_are_below_it() {
        let mut entrants = entrants();
        entrants[1].samples[0].errors.insert("a reset".to_owned(), 2);
        assert!(report(entrants).table().ends_with("\nerrors of haproxy: 2 x a reset\n"));
    }
}
