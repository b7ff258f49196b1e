//! The race's figures as bars, in SVG: a column of panels for each database, a panel for each figure, the longest bar as wide as the panel.

use std::fmt::Write as _;

use crate::Result;
use crate::contestant::Who;

/// A figure: its title, its value, how it is written.
type Panel = (&'static str, fn(&Result) -> f64, fn(f64) -> String);

const PANELS: [Panel; 5] = [
    ("changes per second (more is better)", |it| it.rate, |value| format!("{value:.0}")),
    ("CPU seconds per million changes", |it| it.cpu, |value| format!("{value:.1}")),
    ("peak memory, MB", |it| it.rss_mb, |value| format!("{value:.0}")),
    ("seconds to the first event", |it| it.first, |value| format!("{value:.2}")),
    ("median latency at 1,000 commits/s, ms", |it| it.latency.0, |value| format!("{value:.0}")),
];

const WIDTH: f64 = 460.0;
const LABELS: f64 = 180.0;
const BAR: f64 = 18.0;

/// The plot of each database's results; `about` is the line below it.
pub fn svg(all: &[(String, Vec<Result>)], about: &str) -> String {
    let rows = all.iter().map(|it| it.1.len()).max().unwrap_or(0) as f64;
    let panel = 34.0 + rows * (BAR + 4.0);
    let (width, height) = (WIDTH * all.len() as f64 + 20.0, 40.0 + panel * PANELS.len() as f64 + 34.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (column, (server, results)) in all.iter().enumerate() {
        let x = 10.0 + WIDTH * column as f64;
        text(&mut out, x, 24.0, 16, server);
        for (number, (title, value, written)) in PANELS.iter().enumerate() {
            let top = 40.0 + panel * number as f64;
            text(&mut out, x, top + 16.0, 12, title);
            let most = results.iter().map(value).fold(f64::MIN_POSITIVE, f64::max);
            for (row, result) in results.iter().enumerate() {
                let y = top + 22.0 + (BAR + 4.0) * row as f64;
                let long = (value(result) / most * (WIDTH - LABELS - 80.0)).max(1.0);
                let colour = if result.who == Who::Debezium { "#9aa5b1" } else { "#c2410c" };
                text(&mut out, x, y + BAR - 5.0, 11, result.who.name());
                let _ = writeln!(
                    out,
                    "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{long:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
                    x + LABELS
                );
                text(&mut out, x + LABELS + long + 6.0, y + BAR - 5.0, 11, &written(value(result)));
            }
        }
    }
    text(&mut out, 10.0, height - 12.0, 10, about);
    out + "</svg>\n"
}

fn text(out: &mut String, x: f64, y: f64, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"#1f2933\">{text}</text>");
}
