//! Packets a second against their size, or against flows: a line a peer.

use super::svg::{Svg, apart, color, step};
use crate::lab::measure::show;
use crate::lab::report::Report;

const SIZE: (f64, f64) = (1_040.0, 320.0);
const LEFT: f64 = 46.0;
const RIGHT: f64 = 108.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 32.0;

/// What packets a second are drawn against.
pub(super) struct Axis {
    /// Measures by their places.
    measures: &'static [(&'static str, f64)],
    title: &'static str,
    /// What a place is called.
    label: fn(f64) -> String,
    /// How far along a place is, in steps of its own.
    along: fn(f64) -> f64,
}

/// Bytes of payload.
pub(super) const BY_SIZE: Axis = Axis {
    measures: &[
        ("flood64BytePacketsPerSecond", 64.0),
        ("flood200BytePacketsPerSecond", 200.0),
        ("flood600BytePacketsPerSecond", 600.0),
        ("flood1372BytePacketsPerSecond", 1_372.0),
    ],
    title: "Thousands of datagrams a second by bytes of payload",
    label: |bytes| format!("{bytes} B"),
    along: |bytes| bytes,
};

/// Flows, logarithmic.
pub(super) const BY_FLOWS: Axis = Axis {
    measures: &[
        ("flood1FlowPacketsPerSecond", 1.0),
        ("flood30FlowsPacketsPerSecond", 30.0),
        ("flood1000FlowsPacketsPerSecond", 1_000.0),
    ],
    title: "Thousands of datagrams of 64 bytes a second by flows",
    label: |flows| format!("{flows} {}", if flows == 1.0 { "flow" } else { "flows" }),
    // From a tenth of a flow on, so that one flow is not on the axis.
    along: |flows| flows.log10() + 1.0,
};

/// The drawing; nothing where no peer has a value.
pub(super) fn draw(report: &Report, axis: &Axis) -> Option<String> {
    let points = |peer: &str| -> Vec<(f64, f64)> {
        let all = axis.measures.iter();
        let all = all.filter_map(|(key, at)| Some((*at, report.median(key, peer)? / 1_000.0)));
        all.collect()
    };
    let peers = report.peers.iter().enumerate();
    let lines: Vec<(usize, &str, Vec<(f64, f64)>)> = peers
        .map(|(index, peer)| (index, peer.name.as_str(), points(&peer.name)))
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    let values = lines
        .iter()
        .flat_map(|(_, _, points)| points.iter().map(|(_, kpps)| *kpps));
    let most = values.reduce(f64::max)?.max(1e-3) * 1.06;
    let said: Vec<String> = lines
        .iter()
        .map(|(_, peer, points)| say(peer, points, axis.label))
        .collect();
    let mut svg = Svg::new(SIZE.0, SIZE.1, axis.title, &said.join("; "));
    let (width, height) = (SIZE.0 - LEFT - RIGHT, SIZE.1 - TOP - BOTTOM);
    let places = axis.measures.iter().map(|(_, place)| *place);
    let far = (axis.along)(places.clone().fold(0.0, f64::max));
    let x = |place: f64| LEFT + width * (axis.along)(place) / far;
    let y = |kpps: f64| TOP + height * (1.0 - kpps / most);
    let mut grid = 0.0;
    while grid <= most {
        svg.line("grid", (LEFT, y(grid)), (LEFT + width, y(grid)));
        svg.text(
            "tick",
            "end",
            (LEFT - 7.0, y(grid) + 4.0),
            &format!("{grid}"),
        );
        grid += step(most);
    }
    for place in places {
        svg.line("grid", (x(place), TOP), (x(place), TOP + height));
        svg.text(
            "tick",
            "middle",
            (x(place), SIZE.1 - 12.0),
            &(axis.label)(place),
        );
    }
    let ends: Vec<f64> = lines
        .iter()
        .map(|(_, _, points)| y(points[points.len() - 1].1))
        .collect();
    let heights = apart(&ends, 15.0, (TOP + 4.0, TOP + height));
    for (number, (index, peer, points)) in lines.iter().enumerate().rev() {
        let class = color(*index, peer);
        let drawn: Vec<(f64, f64)> = points
            .iter()
            .map(|(place, kpps)| (x(*place), y(*kpps)))
            .collect();
        svg.path(&format!("curve {class}"), &drawn);
        for point in drawn {
            svg.circle(&format!("point {class}"), point, 3.5);
        }
        let at = (LEFT + width + 10.0, heights[number] + 4.0);
        svg.text(&format!("end {class}"), "start", at, peer);
    }
    Some(svg.finish())
}

fn say(peer: &str, points: &[(f64, f64)], label: fn(f64) -> String) -> String {
    let all = points
        .iter()
        .map(|(place, kpps)| format!("{} kpps at {}", show(*kpps), label(*place)));
    format!("{peer} {}", all.collect::<Vec<String>>().join(", "))
}
