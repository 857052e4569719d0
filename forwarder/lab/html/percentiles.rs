//! Round trips of one situation by percentile, a line a peer: the tail has as much room as the rest,
//! since nobody waits for the median.

use super::svg::{Svg, apart, color};
use crate::lab::measure::show;
use crate::lab::report::Report;
use crate::lab::statistics::{quantile, quantiles};

const SIZE: (f64, f64) = (524.0, 290.0);
const LEFT: f64 = 52.0;
const RIGHT: f64 = 104.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 30.0;
/// Powers of ten that the axis of percentiles has: to 99.9 %.
const NINES: f64 = 3.0;
/// Points of a line.
const POINTS: usize = 90;
/// Steps of a distribution: the last of a thousand must be there.
const STEPS: usize = 2_000;

/// The drawing; nothing where no peer has round trips of the situation.
pub(super) fn draw(report: &Report, situation: &str, title: &str) -> Option<String> {
    let trips = |peer: &str| report.trips(situation, peer);
    let lines: Vec<(usize, &str, Vec<f64>)> = report
        .peers
        .iter()
        .enumerate()
        .map(|(index, peer)| (index, peer.name.as_str(), trips(&peer.name)))
        .filter(|(_, _, trips)| !trips.is_empty())
        .collect();
    let curves: Vec<Vec<f64>> = lines.iter().map(|(_, _, trips)| curve(trips)).collect();
    let least = curves
        .iter()
        .filter_map(|curve| curve.first())
        .copied()
        .reduce(f64::min)?;
    let most = curves
        .iter()
        .filter_map(|curve| curve.last())
        .copied()
        .reduce(f64::max)?;
    // A line of one height, or a clock that tells nothing, still has an axis.
    let (least, most) = (
        (least * 0.9).max(0.1),
        (most * 1.1).max(least * 2.0).max(1.0),
    );
    let said: Vec<String> = lines
        .iter()
        .map(|(_, peer, trips)| say(peer, trips))
        .collect();
    let mut svg = Svg::new(
        SIZE.0,
        SIZE.1,
        &format!("Round trips: {title}"),
        &said.join("; "),
    );
    let (width, height) = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    let x = |nines: f64| LEFT + width * nines / NINES;
    let y = |us: f64| TOP + height * (1.0 - (us.max(least) / least).ln() / (most / least).ln());
    for us in ticks(least, most) {
        svg.line("grid", (LEFT, y(us)), (LEFT + width, y(us)));
        svg.text("tick", "end", (LEFT - 7.0, y(us) + 4.0), &time(us));
    }
    for (part, label) in [
        (0.0, "best"),
        (0.5, "p50"),
        (0.9, "p90"),
        (0.99, "p99"),
        (0.999, "p99.9"),
    ] {
        let at = x(-f64::log10(1.0 - part));
        svg.line("grid", (at, TOP), (at, TOP + height));
        svg.text("tick", "middle", (at, SIZE.1 - 10.0), label);
    }
    let ends: Vec<f64> = curves
        .iter()
        .map(|curve| y(*curve.last().unwrap_or(&least)))
        .collect();
    let heights = apart(&ends, 15.0, (TOP + 4.0, TOP + height));
    // The first ones are ours: drawn last, they lie above.
    for (number, (index, peer, _)) in lines.iter().enumerate().rev() {
        let class = color(*index, peer);
        let points = curves[number].iter().enumerate();
        let points = points.map(|(step, us)| (x(NINES * step as f64 / POINTS as f64), y(*us)));
        svg.path(
            &format!("curve {class}"),
            &points.collect::<Vec<(f64, f64)>>(),
        );
        let at = (LEFT + width + 8.0, heights[number] + 4.0);
        svg.text(&format!("end {class}"), "start", at, peer);
    }
    Some(svg.finish())
}

/// Values at evenly spaced places of the axis.
fn curve(trips: &[f64]) -> Vec<f64> {
    let all = quantiles(trips, STEPS);
    let at = |step: usize| 1.0 - 10f64.powf(-NINES * step as f64 / POINTS as f64);
    (0..=POINTS)
        .map(|step| all[(at(step) * STEPS as f64).round() as usize])
        .collect()
}

/// 1, 2 and 5 of each power of ten between the two.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let powers = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|factor| factor * 10f64.powi(power)));
    all.filter(|us| (least..=most).contains(us)).collect()
}

fn time(us: f64) -> String {
    match us {
        long if long >= 1_000.0 => format!("{} ms", long / 1_000.0),
        short => format!("{short} µs"),
    }
}

fn say(peer: &str, trips: &[f64]) -> String {
    let at = |part| show(quantile(trips, part).unwrap_or(0.0));
    format!(
        "{peer} p50 {} µs, p90 {} µs, p99 {} µs, p99.9 {} µs",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_goes_from_the_best_to_the_worst_in_a_thousand() {
        let trips: Vec<f64> = (1..=10_000).map(f64::from).collect();
        let curve = curve(&trips);
        assert_eq!((curve.len(), curve[0]), (POINTS + 1, 1.0));
        assert!(
            (9_985.0..=9_995.0).contains(&curve[POINTS]),
            "{}",
            curve[POINTS]
        );
        assert!(curve.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn ticks_are_round_and_have_units() {
        assert_eq!(ticks(30.0, 600.0), [50.0, 100.0, 200.0, 500.0]);
        assert_eq!(
            [20.0, 1_000.0, 5_000.0].map(time),
            ["20 µs", "1 ms", "5 ms"]
        );
    }
}
