//! One measure as bars, a peer each, with a dot for each round.

use super::svg::{Svg, color};
use crate::lab::measure::Measure;
use crate::lab::report::{Report, Samples};
use crate::lab::table::show_ratio;

const WIDTH: f64 = 340.0;
const ROW: f64 = 27.0;
const BAR: f64 = 17.0;
const LABELS: f64 = 88.0;
/// Behind the longest bar: its value and ratio.
const VALUES: f64 = 92.0;

/// Every value of a measure, samples too: what the scale must hold.
pub(super) fn values(report: &Report, measure: &Measure) -> Vec<f64> {
    let rows = rows(report, measure);
    let samples = rows
        .iter()
        .flat_map(|(_, row)| row.samples.iter().copied().flatten());
    samples.collect()
}

/// The drawing, scaled so that `most` is the longest bar.
pub(super) fn draw(report: &Report, measure: &Measure, most: f64) -> String {
    let rows = rows(report, measure);
    let said: Vec<String> = rows.iter().map(|(_, row)| say(measure, row)).collect();
    let height = ROW * rows.len() as f64 + 6.0;
    let mut svg = Svg::new(WIDTH, height, &measure.label(), &said.join("; "));
    let scale = (WIDTH - LABELS - VALUES) / most.max(1e-12);
    svg.line("axis", (LABELS, 0.0), (LABELS, height));
    for (number, (index, row)) in rows.into_iter().enumerate() {
        let middle = ROW * number as f64 + ROW / 2.0 + 3.0;
        let median = row.median.unwrap_or(0.0);
        svg.text("label", "end", (LABELS - 8.0, middle + 4.0), &row.peer);
        let class = color(index, &row.peer);
        let corner = (LABELS, middle - BAR / 2.0);
        svg.rect(
            &format!("bar {class}"),
            corner,
            ((median * scale).max(1.5), BAR),
        );
        let mut end = median;
        for sample in row
            .samples
            .iter()
            .copied()
            .flatten()
            .filter(|_| row.samples.len() > 1)
        {
            svg.circle("dot", (LABELS + sample * scale, middle), 2.0);
            end = end.max(sample);
        }
        let at = LABELS + end * scale + 7.0;
        let value = measure.show(median);
        svg.text("value", "start", (at, middle + 4.0), &value);
        let is_reference = report.reference.as_deref() == Some(row.peer.as_str());
        if let Some(ratio) = row.ratio.filter(|_| !is_reference) {
            let behind = at + 7.0 * value.len() as f64 + 8.0;
            svg.text("ratio", "start", (behind, middle + 4.0), &show_ratio(ratio));
        }
    }
    svg.finish()
}

/// Peers that have a value, with their number.
fn rows<'a>(report: &'a Report, measure: &Measure) -> Vec<(usize, &'a Samples)> {
    let peers = report.peers.iter().enumerate();
    let rows = peers.filter_map(|(index, peer)| {
        let samples = report.samples(measure.key, &peer.name)?;
        samples.median.map(|_| (index, samples))
    });
    rows.collect()
}

fn say(measure: &Measure, row: &Samples) -> String {
    let median = row
        .median
        .map_or(String::new(), |median| measure.show(median));
    format!("{} {median} {}", row.peer, measure.unit)
}
