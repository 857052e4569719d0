//! A report for a terminal of 100 columns: a line a measure, a column a peer, medians and ratios.

use std::fmt::Write;

use super::measure::{Better, Measure};
use super::progress::duration;
use super::report::{PeerInfo, Report};

/// Nothing is wider.
const WIDTH: usize = 100;
/// Of the column with the measures' names.
const LABEL: usize = 29;
/// Of a peer's column, with the gap before it.
const CELL: usize = 14;

/// The whole text.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(report, &mut text);
    text
}

fn write_all(report: &Report, text: &mut String) -> std::fmt::Result {
    writeln!(text, "{}", clip(&report.machine.describe()))?;
    let rounds = match report.rounds {
        1 => "one round".to_owned(),
        many => format!("medians of {many} rounds"),
    };
    writeln!(
        text,
        "{}, {}, took {}",
        report.date,
        rounds,
        duration(report.seconds)
    )?;
    if let Some(link) = &report.link {
        writeln!(text, "over a link with {link}, each way")?;
    }
    for peers in report.peers.chunks((WIDTH - LABEL) / CELL) {
        writeln!(text)?;
        block(report, peers, text)?;
    }
    if let Some(reference) = &report.reference {
        writeln!(
            text,
            "\n× is against {reference} in this sitting; in lines marked - less is better"
        )?;
    }
    for problem in &report.problems {
        let round = problem.round + 1;
        writeln!(
            text,
            "round {round}, {}, {}: {}",
            problem.peer, problem.stage, problem.reason
        )?;
    }
    Ok(())
}

/// Some of the peers side by side.
fn block(report: &Report, peers: &[PeerInfo], text: &mut String) -> std::fmt::Result {
    let width = CELL - 1;
    write!(text, "{:LABEL$}", "")?;
    for peer in peers {
        write!(text, " {:>width$}", peer.name)?;
    }
    writeln!(text)?;
    for measure in report.measured() {
        let sign = if measure.better == Better::Less {
            "-"
        } else {
            " "
        };
        let label: String = measure.label().chars().take(LABEL - 2).collect();
        let label = format!("{sign} {label}");
        write!(text, "{label:LABEL$}")?;
        for peer in peers {
            write!(text, " {:>width$}", cell(report, measure, &peer.name))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// `5.07  2.03×`.
fn cell(report: &Report, measure: &Measure, peer: &str) -> String {
    let Some(samples) = report.samples(measure.key, peer) else {
        return String::new();
    };
    let Some(median) = samples.median else {
        return String::new();
    };
    let value = measure.show(median);
    match samples
        .ratio
        .filter(|_| report.reference.as_deref() != Some(peer))
    {
        Some(ratio) => format!("{value} {:>6}", show_ratio(ratio)),
        None => format!("{value} {:>6}", ""),
    }
}

/// `2.03×`.
pub(crate) fn show_ratio(ratio: f64) -> String {
    match ratio {
        large if large >= 99.5 => format!("{large:.0}×"),
        middle if middle >= 9.95 => format!("{middle:.1}×"),
        small => format!("{small:.2}×"),
    }
}

fn clip(line: &str) -> String {
    line.chars().take(WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::super::measure;
    use super::super::report::tests::example;
    use super::*;

    #[test]
    fn the_table_has_every_measure_and_peer_and_fits_a_hundred_columns() {
        let peers = [
            "farlane run",
            "farlane wg",
            "wireguard-go",
            "boringtun",
            "gotatun",
            "nebula",
            "plain",
        ];
        let text = render(&example(&peers, 3));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for part in peers {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        for measure in measure::all() {
            assert!(
                text.contains(&measure.label()),
                "{} in\n{text}",
                measure.label()
            );
        }
        assert!(text.contains("2.33×") || text.contains("0.33×"), "{text}");
    }

    #[test]
    fn a_ratio_has_three_digits() {
        assert_eq!(
            [0.125, 2.034, 12.34, 123.4].map(show_ratio),
            ["0.12×", "2.03×", "12.3×", "123×"]
        );
    }
}
