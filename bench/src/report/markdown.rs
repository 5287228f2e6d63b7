//! The figures for a page.

use std::fmt::Write;

use super::{Measured, Report, number, ratio_cells};
use crate::{mode::Better, stats::Stats};

impl Report {
    /// A table for each mode, with a row for each peer.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for line in self.notes().lines() {
            let _ = writeln!(text, "{line}\n");
        }
        for measured in &self.modes {
            let _ = writeln!(text, "{}", measured.markdown());
        }
        text
    }
}

impl Measured {
    fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n{}.\n\n", self.mode, self.mode.description());
        let figures: Vec<_> = self.mode.figures().iter().enumerate().collect();
        let told = |better| better != Better::Neither;
        let header: Vec<_> =
            figures.iter().filter(|(_, f)| told(f.better)).map(|(_, f)| f.name).collect();
        let _ = writeln!(text, "| | {} | ratio | of NAT | errors |", header.join(" | "));
        let _ = writeln!(text, "|---|{}", "--:|".repeat(header.len() + 3));
        let columns: Vec<_> = figures
            .iter()
            .filter(|(_, figure)| told(figure.better))
            .map(|(index, figure)| self.rows(*index, figure))
            .collect();
        for entrant in self.entrants.iter().filter(|entrant| entrant.fault.is_none()) {
            let mut cells = vec![entrant.name()];
            let own = columns
                .iter()
                .map(|column| column.iter().find(|row| std::ptr::eq(row.entrant, entrant)));
            cells.extend(own.clone().map(|row| match row {
                Some(row) => number(row.stats.median()),
                None => "–".to_owned(),
            }));
            let first = own.flatten().next();
            cells.push(ratio(first.and_then(|row| row.ratio.as_ref())));
            cells.push(ratio(first.and_then(|row| row.nat.as_ref())));
            cells.push(entrant.errors().values().sum::<u64>().to_string());
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        for wrong in self.comparisons().into_iter().chain(self.wrongs()) {
            let _ = write!(text, "\n{wrong}\n");
        }
        text
    }
}

/// In one cell.
fn ratio(ratio: Option<&Stats>) -> String {
    match ratio_cells(ratio) {
        [ratio, interval] if interval.is_empty() => ratio,
        [ratio, interval] => format!("{ratio} ({interval})"),
    }
}

#[cfg(test)]
mod tests {
    use crate::report::tests::{entrants, report};

    #[test]
    fn peers_are_rows_and_figures_columns() {
        let text = report(entrants()).markdown();
        for line in [
            "| | MB/s | gateway CPU ms/GB | machine CPU ms/GB | ratio | of NAT | errors |",
            "|---|--:|--:|--:|--:|--:|--:|",
            "| nftables | 400 | – | 1.00 | 2.00 (2.00-4.00) | 1.00 | 0 |",
            "| nginx | 100 | 10.0 | 1.00 | 1.00 |  | 0 |",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
