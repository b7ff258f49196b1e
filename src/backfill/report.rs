//! Texts about how copies are getting on: for the log, for the status line of a terminal, and the table of `--status`.
//!
//! Pure functions. Table names are shown without control characters, which a terminal would obey.

use super::control::TableProgress;

/// One table for the log, such as
/// `public.orders: 1,234,000 of about 5,000,000 rows (24.7 %), 310 MB, 85,000 rows/s, 44 s left, ...`.
pub fn line(progress: &TableProgress) -> String {
    let table = clean(&progress.table);
    let why = progress.why.as_deref().map(|why| format!(": {}", clean(why))).unwrap_or_default();
    let amount = format!("{} rows, {}", count(progress.rows), size(progress.bytes));
    let newer = match progress.dropped {
        0 => String::new(),
        dropped => format!(", {} dropped for newer changes", count(dropped)),
    };
    match progress.state.as_str() {
        "reading" | "paused" => {
            let paused = if progress.state == "paused" { format!(", paused{why}") } else { String::new() };
            let of = progress.estimated_rows.map(|rows| format!(" of about {}", count(rows))).unwrap_or_default();
            let percent = progress.percent.map(|percent| format!(" ({})", share(percent))).unwrap_or_default();
            let left = match progress.seconds_left {
                Some(seconds) if paused.is_empty() => format!(", {} left", time(seconds)),
                _ => String::new(),
            };
            format!(
                "{table}: {}{of} rows{percent}, {}, {} rows/s{left}, {} dropped for newer changes, {} to be read \
                 again{paused}",
                count(progress.rows),
                size(progress.bytes),
                rate(progress.rows_per_second),
                count(progress.dropped),
                count(progress.reread),
            )
        }
        "copied" => format!("{table}: copied, {amount}{newer}"),
        "waiting" => format!("{table}: waiting{why}"),
        state => format!("{table}: {}, {amount}{newer}{why}", clean(state)),
    }
}

/// All copies that aren't over in one line of at most `width` letters; empty if there are none.
pub fn bar(tables: &[TableProgress], width: usize) -> String {
    let busy = |progress: &&TableProgress| matches!(progress.state.as_str(), "reading" | "paused");
    let open = tables.iter().filter(|progress| busy(progress) || progress.state == "waiting").count();
    let Some(first) = tables.iter().find(busy) else { return String::new() };
    let done = tables.iter().filter(|progress| progress.state == "copied").count();
    let speed: f64 =
        tables.iter().filter(busy).map(|progress| progress.rows_per_second).filter(|it| it.is_finite()).sum();
    let busy_count = tables.iter().filter(busy).count();
    let more = if busy_count > 1 { format!(" and {} more", busy_count - 1) } else { String::new() };
    let mut text = format!("{}{more}: ", clean(&first.table));
    if tables.iter().filter(busy).all(|progress| progress.state == "paused") {
        text.push_str("paused");
    } else {
        text.push_str(&format!("{} rows/s", rate(speed)));
        if let (Some(seconds), 1) = (first.seconds_left, open) {
            text.push_str(&format!(", {} left", time(seconds)));
        }
    }
    if open + done > 1 {
        text.push_str(&format!(", {done} of {} tables copied", open + done));
    }
    let Some(percent) = overall(tables) else { return fit(&text, width) };
    let share = format!("{:>6}", share(percent));
    // The gauge takes what is left, and nothing if that is too little to be of use.
    let gauge = width.saturating_sub(text.chars().count() + share.chars().count() + 4).min(30);
    if gauge < 8 {
        return fit(&format!("{} {text}", share.trim_start()), width);
    }
    let full = ((percent / 100.0 * gauge as f64) as usize).min(gauge);
    format!("[{}{}] {share} {text}", "#".repeat(full), "-".repeat(gauge - full))
}

/// How much of all copies that aren't over, and those that are, is done; none if a size isn't known.
fn overall(tables: &[TableProgress]) -> Option<f64> {
    let (mut done, mut all) = (0.0, 0.0);
    for progress in tables {
        match progress.state.as_str() {
            "copied" => {
                done += progress.rows as f64;
                all += progress.rows as f64;
            }
            "reading" | "paused" | "waiting" => {
                let rows = progress.estimated_rows? as f64;
                all += rows;
                done += rows * progress.percent.unwrap_or_default().clamp(0.0, 100.0) / 100.0;
            }
            _ => {}
        }
    }
    (all > 0.0).then(|| done / all * 100.0)
}

/// All copies as a table for people, with a line for each reason below it; no newline at the end.
pub fn table(tables: &[TableProgress]) -> String {
    const NUMBERS_FROM: usize = 2;
    let head =
        ["TABLE", "STATE", "ROWS", "OF ABOUT", "DONE", "ROWS/S", "LEFT", "DROPPED", "READ AGAIN"].map(str::to_owned);
    let mut rows = vec![head];
    let unknown = || "-".to_owned();
    for progress in tables {
        let open = matches!(progress.state.as_str(), "reading" | "paused");
        rows.push([
            clean(&progress.table),
            clean(&progress.state),
            count(progress.rows),
            progress.estimated_rows.map_or_else(unknown, count),
            progress.percent.map_or_else(unknown, share),
            if open { rate(progress.rows_per_second) } else { unknown() },
            progress.seconds_left.filter(|_| open).map_or_else(unknown, time),
            count(progress.dropped),
            count(progress.reread),
        ]);
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(widths).enumerate().map(|(index, (cell, width))| match index {
                0..NUMBERS_FROM => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect();
    for progress in tables {
        if let Some(why) = &progress.why {
            lines.push(format!("{}: {}", clean(&progress.table), clean(why)));
        }
    }
    lines.join("\n")
}

/// 1,234,567
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whole rows from 10 on; a slow copy shouldn't look like one that stands.
fn rate(rows: f64) -> String {
    match rows {
        rows if !rows.is_finite() => count(0),
        rows if rows > 0.0 && rows < 10.0 => format!("{rows:.1}"),
        rows => count(rows.round() as u64),
    }
}

/// Three digits at least count: 999 B, 1.2 GB, 310 MB.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut shown = "B";
    while value >= 999.5 {
        let Some(unit) = units.next() else { break };
        value /= 1000.0;
        shown = unit;
    }
    if value < 9.95 { format!("{value:.1} {shown}") } else { format!("{value:.0} {shown}") }
}

/// 100 % only when all is done.
fn share(percent: f64) -> String {
    let shown = if percent < 100.0 { percent.clamp(0.0, 99.9) } else { 100.0 };
    // Cut, not rounded: 99.96 isn't 100.0.
    format!("{:.1} %", (shown * 10.0).floor() / 10.0)
}

/// 44 s, 3 min 05 s, 2 h 10 min, 4 days.
pub(crate) fn time(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        6_000..=359_999 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn fit(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TableProgress {
        TableProgress {
            table: "public.orders".to_owned(),
            state: "reading".to_owned(),
            rows: 1_234_000,
            bytes: 310_400_000,
            estimated_rows: Some(5_000_000),
            percent: Some(24.68),
            rows_per_second: 85_000.2,
            seconds_left: Some(44),
            dropped: 12,
            reread: 0,
            why: None,
        }
    }

    fn in_state(state: &str) -> TableProgress {
        TableProgress { state: state.to_owned(), ..orders() }
    }

    #[test]
    fn the_log_says_how_a_table_is_getting_on() {
        let unknown = TableProgress { estimated_rows: None, percent: None, seconds_left: None, ..orders() };
        let why = Some("the stream is\n1 m behind".to_owned());
        for (progress, expected) in [
            (
                orders(),
                "public.orders: 1,234,000 of about 5,000,000 rows (24.6 %), 310 MB, 85,000 rows/s, 44 s left, 12 dropped for \
                 newer changes, 0 to be read again",
            ),
            (
                unknown,
                "public.orders: 1,234,000 rows, 310 MB, 85,000 rows/s, 12 dropped for newer changes, 0 to be read again",
            ),
            (
                TableProgress { why: why.clone(), ..in_state("paused") },
                "public.orders: 1,234,000 of about 5,000,000 rows (24.6 %), 310 MB, 85,000 rows/s, 12 dropped for newer \
                 changes, 0 to be read again, paused: the stream is 1 m behind",
            ),
            (in_state("waiting"), "public.orders: waiting"),
            (in_state("copied"), "public.orders: copied, 1,234,000 rows, 310 MB, 12 dropped for newer changes"),
            (TableProgress { dropped: 0, ..in_state("copied") }, "public.orders: copied, 1,234,000 rows, 310 MB"),
            (
                TableProgress { dropped: 0, why, ..in_state("failed") },
                "public.orders: failed, 1,234,000 rows, 310 MB: the stream is 1 m behind",
            ),
        ] {
            assert_eq!(line(&progress), expected);
        }
    }

    #[test]
    fn the_bar_fits_and_names_what_is_read() {
        assert_eq!(bar(&[], 80), "");
        assert_eq!(bar(&[in_state("copied"), in_state("failed"), in_state("waiting")], 80), "");
        assert_eq!(
            bar(&[orders()], 80),
            "[#######-----------------------] 24.6 % public.orders: 85,000 rows/s, 44 s left"
        );
        assert_eq!(bar(&[orders()], 60), "[##---------] 24.6 % public.orders: 85,000 rows/s, 44 s left");
        assert_eq!(bar(&[orders()], 50), "24.6 % public.orders: 85,000 rows/s, 44 s left");
        assert_eq!(bar(&[orders()], 10), "24.6 % pub");
        assert_eq!(bar(&[orders()], 0), "");
        let done = TableProgress { rows: 5_000_000, ..in_state("copied") };
        let waiting = TableProgress { percent: None, ..in_state("waiting") };
        assert_eq!(
            bar(&[done, orders(), orders(), waiting], 100),
            "[##########------------------] 37.3 % public.orders and 1 more: 170,000 rows/s, 1 of 4 tables copied"
        );
        let unknown = TableProgress { estimated_rows: None, ..orders() };
        assert_eq!(bar(&[unknown, orders()], 80), "public.orders and 1 more: 170,000 rows/s, 0 of 2 tables copied");
        assert_eq!(bar(&[in_state("paused")], 50), "[####---------------] 24.6 % public.orders: paused");
        for width in 0..120 {
            let odd = TableProgress { table: "\u{1b}[31mü".repeat(9), percent: Some(f64::NAN), ..orders() };
            let shown = bar(&[odd, orders(), in_state("waiting")], width);
            assert!(shown.chars().count() <= width && !shown.contains('\u{1b}'), "{width}: {shown}");
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_why() {
        let items = TableProgress {
            table: "public.i".to_owned(),
            rows: 7,
            estimated_rows: None,
            percent: None,
            why: Some("no privilege".to_owned()),
            ..in_state("failed")
        };
        assert_eq!(
            table(&[orders(), items]),
            "TABLE          STATE         ROWS   OF ABOUT    DONE  ROWS/S  LEFT  DROPPED  READ AGAIN\n\
             public.orders  reading  1,234,000  5,000,000  24.6 %  85,000  44 s       12           0\n\
             public.i       failed           7          -       -       -     -       12           0\n\
             public.i: no privilege"
        );
    }

    #[test]
    fn numbers_have_their_form() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_960, "10 kB"),
            (999_999, "1.0 MB"),
            (310_400_000, "310 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (percent, text) in
            [(0.0, "0.0 %"), (99.99, "99.9 %"), (100.0, "100.0 %"), (140.0, "100.0 %"), (-1.0, "0.0 %")]
        {
            assert_eq!(share(percent), text);
        }
        for (seconds, text) in
            [(0, "0 s"), (99, "99 s"), (100, "1 min 40 s"), (6_000, "1 h 40 min"), (900_000, "10 days")]
        {
            assert_eq!(time(seconds), text);
        }
        for (rows, text) in
            [(0.0, "0"), (0.25, "0.2"), (9.0, "9.0"), (12.6, "13"), (f64::NAN, "0"), (f64::INFINITY, "0")]
        {
            assert_eq!(rate(rows), text);
        }
    }
}
