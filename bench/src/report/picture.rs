//! The ratios as bars, in SVG.

use std::fmt::Write;

use super::{Measured, Report, Row};

/// Where bars begin, and how wide they can be.
const LEFT: f64 = 150.0;
const WIDTH: f64 = 560.0;
/// What is right of the longest bar: its ratio and its errors.
const MARGIN: f64 = 130.0;
/// From one bar to the next, and from one mode to the next.
const BAR: f64 = 16.0;
const GAP: f64 = 34.0;
const TOP: f64 = 46.0;

/// Colours that can be read on light and on dark ground; each class has its bars' colour.
const STYLE: &str = "\
text{font:12px sans-serif;fill:#24292f}.mode{font-weight:bold}.value{fill:#57606a}\
.kernel{fill:#8c959f}.proxy{fill:#6ea8d8}.l4way{fill:#1a7f37}\
.one{stroke:#57606a;stroke-dasharray:3 3}.interval{stroke:#24292f;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.value{fill:#9198a1}\
.kernel{fill:#656c76}.proxy{fill:#4184b8}.l4way{fill:#3fb950}\
.one{stroke:#9198a1}.interval{stroke:#e6edf3}}";

impl Report {
    /// A bar for each peer's ratio to the best proxy, in each mode that has work, the interval on it.
    pub(crate) fn svg(&self) -> String {
        let modes: Vec<_> = self.modes.iter().filter_map(Bars::of).collect();
        let widest = modes.iter().flat_map(|bars| &bars.rows).filter_map(|row| row.ratio.as_ref());
        let most = widest.map(|ratio| ratio.interval().1).fold(1.0, f64::max);
        let height = TOP + modes.iter().map(Bars::height).sum::<f64>();
        let width = LEFT + WIDTH + MARGIN;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>Ratios to the best \
             proxy</title>\n<style>{STYLE}</style>\n<text class=\"mode\" x=\"8\" y=\"20\">Ratio to \
             the best of HAProxy, nginx and Envoy, with its 95 % interval</text>\n"
        );
        let mut top = TOP;
        for bars in &modes {
            bars.draw(&mut text, top, WIDTH / most);
            top += bars.height();
        }
        text + "</svg>\n"
    }
}

/// A mode's bars.
struct Bars<'a> {
    measured: &'a Measured,
    rows: Vec<Row<'a>>,
}

impl<'a> Bars<'a> {
    fn of(measured: &'a Measured) -> Option<Self> {
        if measured.mode.is_idle() {
            return None;
        }
        let mut rows = measured.rows(0, measured.mode.figures().first()?);
        rows.retain(|row| row.ratio.is_some() && !row.entrant.again);
        (!rows.is_empty()).then_some(Self { measured, rows })
    }

    fn height(&self) -> f64 {
        GAP + BAR * self.rows.len() as f64
    }

    fn draw(&self, text: &mut String, top: f64, scale: f64) {
        let mode = self.measured.mode;
        let figure = mode.figures()[0].name;
        let _ = writeln!(
            text,
            "<text class=\"mode\" x=\"8\" y=\"{}\">{mode} ({figure})</text>",
            top + 10.0
        );
        let first = top + 18.0;
        for (row, y) in self.rows.iter().zip((0..).map(|index| first + BAR * f64::from(index))) {
            draw_bar(text, row, y, scale);
        }
        let (x, end) = (LEFT + scale, first + BAR * self.rows.len() as f64);
        let _ = writeln!(
            text,
            "<line class=\"one\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{first}\" y2=\"{end}\"/>"
        );
    }
}

fn draw_bar(text: &mut String, row: &Row<'_>, y: f64, scale: f64) {
    let Some(ratio) = &row.ratio else { return };
    let (median, (low, high)) = (ratio.median(), ratio.interval());
    let peer = row.entrant.peer;
    let class = match peer {
        _ if peer.is_rival() => "proxy",
        _ if peer.to_string().starts_with("l4way") => "l4way",
        _ => "kernel",
    };
    let errors: u64 = row.entrant.errors().values().sum();
    let note = if errors > 0 { format!(" ({errors} errors)") } else { String::new() };
    let (text_y, middle, height) = (y + 11.0, y + 7.0, BAR - 3.0);
    let at = |ratio: f64| LEFT + ratio * scale;
    let _ = writeln!(
        text,
        "<text x=\"8\" y=\"{text_y}\">{peer}</text>\
         <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{height}\"/>\
         <line class=\"interval\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
         <text class=\"value\" x=\"{:.1}\" y=\"{text_y}\">{median:.2}{note}</text>",
        median * scale,
        at(low),
        at(high),
        at(high.max(median)) + 6.0,
    );
}

#[cfg(test)]
mod tests {
    use crate::report::tests::{entrants, report};

    #[test]
    fn a_bar_is_as_long_as_its_ratio() {
        let text = report(entrants()).svg();
        // The longest interval's end is 4.00, which takes the whole width.
        assert!(
            text.contains("<rect class=\"proxy\" x=\"150\" y=\"96\" width=\"140.0\""),
            "{text}"
        );
        assert!(text.contains(">l4way-kernel</text><rect class=\"l4way\""), "{text}");
        assert_eq!(text.matches("<rect").count(), 5);
        assert_eq!(text.matches("<text").count(), 12);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
    }
}
