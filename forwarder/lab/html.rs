//! A report as one page that opens from disk: headlines, plots drawn here as SVG, and a table with
//! every figure. It loads nothing, and is readable in a light and in a dark room, by eyes and by
//! screen readers.

mod bars;
mod lines;
mod percentiles;
mod svg;

use std::fmt::Write;
use std::path::Path;

use super::error::LabError;
use super::measure::{Better, Measure};
use super::peer::{DEVICE, NODE};
use super::progress::duration;
use super::report::{Report, Samples};
use super::table::show_ratio;
use svg::escape;

const STYLE: &str = include_str!("html/page.css");

/// What is said first, where it was measured.
const HEADLINES: [&str; 8] = [
    "tcpOneFlowGbitPerSecond",
    "noGsoTcpOneFlowGbitPerSecond",
    "tcpCpuSecondsPerGib",
    "lossFree64BytePacketsPerSecond",
    "idleRoundTripP50Us",
    "fullRoundTripP99Us",
    "loadedMemoryMib",
    "newConnectionsPerSecond",
];

/// Panels of bars: a heading, what it means, measures.
const BARS: [(&str, &str, &[&str]); 4] = [
    (
        "TCP throughput",
        "Gbit/s that iperf3 receives between two pods; more is better. Each dot is one round. \
         Without GSO the underlay segments nothing, as a NIC without offloads. On one node only \
         farlane run carries the flow; beside the others the kernel routes it.",
        &[
            "tcpOneFlowGbitPerSecond",
            "tcpFourFlowsGbitPerSecond",
            "tcpReverseGbitPerSecond",
            "noGsoTcpOneFlowGbitPerSecond",
            "noGsoTcpFourFlowsGbitPerSecond",
            "noGsoTcpReverseGbitPerSecond",
            "localTcpGbitPerSecond",
        ],
    ),
    (
        "CPU",
        "Seconds of user and system time that both tunnel processes take to carry one GiB of one TCP \
         flow, and what an idle one takes of a core; less is better.",
        &[
            "tcpCpuSecondsPerGib",
            "noGsoTcpCpuSecondsPerGib",
            "idleCpuPercent",
        ],
    ),
    (
        "Packets without loss",
        "Datagrams a second of which fewer than 0.2 % are lost, found by bisection; more is better.",
        &[
            "lossFree64BytePacketsPerSecond",
            "lossFree1372BytePacketsPerSecond",
        ],
    ),
    (
        "Connections and memory",
        "New TCP connections a second through a service (by DNAT in front of those who have none); \
         resident memory of a tunnel process after its start, and at most.",
        &[
            "newConnectionsPerSecond",
            "idleMemoryMib",
            "loadedMemoryMib",
        ],
    ),
];

/// Situations of round trips, as the report names them.
const SITUATIONS: [(&str, &str); 4] = [
    ("idle", "Idle, back to back"),
    ("sparse", "Idle, one each millisecond"),
    ("gigabit", "Beside 1 Gbit/s of TCP"),
    ("full", "Beside all that TCP can carry"),
];

/// Writes the page.
///
/// # Errors
/// [`LabError::File`].
pub(crate) fn write(report: &Report, path: &Path) -> Result<(), LabError> {
    std::fs::write(path, render(report)).map_err(|error| LabError::file(path, error))
}

/// The page.
pub(crate) fn render(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(report, &mut page);
    page
}

fn write_all(report: &Report, page: &mut String) -> std::fmt::Result {
    let date = report.date.get(..10).unwrap_or(&report.date);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Farlane lab, {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(date)
    )?;
    header(report, page)?;
    headlines(report, page)?;
    for (index, (heading, meaning, measures)) in BARS.iter().enumerate() {
        panels(report, (heading, meaning), measures, page)?;
        // Between throughput and the rest: what most people look for next.
        if index == 0 {
            round_trips(report, page)?;
            sizes(report, page)?;
        }
    }
    table(report, page)?;
    problems(report, page)?;
    footer(report, page)?;
    page.write_str("</main>\n</body>\n</html>\n")
}

fn header(report: &Report, page: &mut String) -> std::fmt::Result {
    let rounds = match report.rounds {
        1 => "one round".to_owned(),
        many => format!("medians of {many} rounds, in turn"),
    };
    writeln!(
        page,
        "<header>\n<h1>Farlane lab</h1>\n<p class=\"lead\">What pods on two nodes get through \
         each tunnel: {rounds}.</p>\n<p class=\"facts\">{}<br>{} · took {} · farlane {}</p>",
        escape(&report.machine.describe()),
        escape(&report.date),
        duration(report.seconds),
        escape(&report.farlane),
    )?;
    if let Some(link) = &report.link {
        let link = escape(link);
        writeln!(
            page,
            "<p class=\"facts\">Over a link with {link}, each way.</p>"
        )?;
    }
    page.write_str("<ul class=\"legend\">\n")?;
    for (index, peer) in report.peers.iter().enumerate() {
        let name = escape(&peer.name);
        let color = svg::color(index, &peer.name);
        writeln!(page, "<li><span class=\"chip {color}\"></span>{name}</li>")?;
    }
    page.write_str("</ul>\n</header>\n")
}

/// Ours against the reference, in a few large numbers.
fn headlines(report: &Report, page: &mut String) -> std::fmt::Result {
    let Some(reference) = &report.reference else {
        return Ok(());
    };
    let ours = [NODE, DEVICE]
        .into_iter()
        .find(|ours| report.peers.iter().any(|peer| peer.name == *ours));
    let Some(ours) = ours else {
        return Ok(());
    };
    let said = HEADLINES.iter().filter_map(|key| {
        let measure = Measure::by_key(key)?;
        let own = report.samples(measure.key, ours)?;
        Some((measure, own.median?, own.ratio?))
    });
    let said: Vec<(&Measure, f64, f64)> = said.collect();
    if said.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "<section aria-labelledby=\"headlines\">\n<h2 id=\"headlines\">{} against {}</h2>\n<div class=\"cards\">",
        escape(ours),
        escape(reference)
    )?;
    for (measure, own, ratio) in said {
        let theirs = report.median(measure.key, reference).unwrap_or(0.0);
        let wins = (ratio >= 1.0) == (measure.better == Better::More);
        let (class, sense) = match (wins, measure.better) {
            (true, _) => ("card good", "better"),
            (false, _) => ("card bad", "worse"),
        };
        writeln!(
            page,
            "<div class=\"{class}\"><strong>{}</strong><span class=\"name\">{}</span>\
             <span class=\"detail\">{} against {} {}<span class=\"unseen\">, {sense}</span></span></div>",
            show_ratio(ratio),
            escape(measure.title),
            measure.show(own),
            measure.show(theirs),
            escape(measure.unit),
        )?;
    }
    page.write_str("</div>\n</section>\n")
}

/// A heading and a panel of bars for each measure that has a value.
fn panels(
    report: &Report,
    (heading, meaning): (&str, &str),
    keys: &[&str],
    page: &mut String,
) -> std::fmt::Result {
    let measured = report.measured();
    let measures: Vec<&Measure> = measured
        .into_iter()
        .filter(|one| keys.contains(&one.key))
        .collect();
    if measures.is_empty() {
        return Ok(());
    }
    open(heading, meaning, "", page)?;
    // What has one unit has one scale, so that panels can be compared.
    let most = |unit: &str| {
        let same = measures.iter().filter(|measure| measure.unit == unit);
        let all = same.flat_map(|measure| bars::values(report, measure));
        all.fold(0.0, f64::max)
    };
    for measure in &measures {
        figure(
            &measure.label(),
            &bars::draw(report, measure, most(measure.unit)),
            page,
        )?;
    }
    page.write_str("</div>\n</section>\n")
}

fn round_trips(report: &Report, page: &mut String) -> std::fmt::Result {
    if report.round_trips.is_empty() {
        return Ok(());
    }
    open(
        "Round trips",
        "How long a small datagram takes there and back, by percentile: the right end is the worst \
         in a thousand. Both axes are logarithmic; lower is better.",
        " wide",
        page,
    )?;
    for (situation, title) in SITUATIONS {
        if let Some(drawn) = percentiles::draw(report, situation, title) {
            figure(title, &drawn, page)?;
        }
    }
    page.write_str("</div>\n</section>\n")
}

fn sizes(report: &Report, page: &mut String) -> std::fmt::Result {
    let drawn = [&lines::BY_SIZE, &lines::BY_FLOWS].map(|axis| lines::draw(report, axis));
    if drawn.iter().all(Option::is_none) {
        return Ok(());
    }
    open(
        "Packets by size and flows",
        "Thousands of datagrams a second that arrive when a pod sends as fast as it can; more is \
         better. Those of many flows come eight of one after the other.",
        " whole",
        page,
    )?;
    let captions = [
        "UDP flood, kpps by bytes of payload",
        "UDP flood of 64 bytes, kpps by flows",
    ];
    for (caption, drawn) in captions.iter().zip(drawn) {
        if let Some(drawn) = drawn {
            figure(caption, &drawn, page)?;
        }
    }
    page.write_str("</div>\n</section>\n")
}

/// Begins a section of panels: three in a row, or `wide` ones in two, or `whole` ones.
fn open(heading: &str, meaning: &str, width: &str, page: &mut String) -> std::fmt::Result {
    let id = heading.to_lowercase().replace(' ', "-");
    writeln!(
        page,
        "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n<p>{}</p>\n<div class=\"panels{width}\">",
        escape(heading),
        escape(meaning)
    )
}

fn figure(caption: &str, drawn: &str, page: &mut String) -> std::fmt::Result {
    writeln!(
        page,
        "<figure>\n<figcaption>{}</figcaption>\n{drawn}</figure>",
        escape(caption)
    )
}

/// Every median and ratio; the samples are in each cell's tool tip.
fn table(report: &Report, page: &mut String) -> std::fmt::Result {
    page.write_str(
        "<section aria-labelledby=\"figures\">\n<h2 id=\"figures\">All figures</h2>\n\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"figures\">\n<table>\n<thead>\n<tr><th scope=\"col\">median</th>",
    )?;
    for peer in &report.peers {
        write!(page, "<th scope=\"col\">{}</th>", escape(&peer.name))?;
    }
    page.write_str("</tr>\n</thead>\n<tbody>\n")?;
    for measure in report.measured() {
        let sense = match measure.better {
            Better::More => "more is better",
            Better::Less => "less is better",
        };
        let arrow = if measure.better == Better::More {
            "↑"
        } else {
            "↓"
        };
        write!(
            page,
            "<tr data-measure=\"{}\"><th scope=\"row\">{} <span class=\"sense\" title=\"{sense}\">{arrow}</span></th>",
            escape(measure.key),
            escape(&measure.label()),
        )?;
        for peer in &report.peers {
            cell(measure, report.samples(measure.key, &peer.name), page)?;
        }
        page.write_str("</tr>\n")?;
    }
    page.write_str("</tbody>\n</table>\n</div>\n")?;
    if let Some(reference) = &report.reference {
        let reference = escape(reference);
        writeln!(
            page,
            "<p>× is the ratio to {reference}. ↑ more is better, ↓ less is better.</p>"
        )?;
    }
    page.write_str("</section>\n")
}

fn cell(measure: &Measure, samples: Option<&Samples>, page: &mut String) -> std::fmt::Result {
    let Some((samples, median)) = samples.and_then(|samples| Some((samples, samples.median?)))
    else {
        return page.write_str("<td>–</td>");
    };
    let all: Vec<String> = samples
        .samples
        .iter()
        .map(|sample| sample.map_or("–".to_owned(), |sample| measure.show(sample)))
        .collect();
    let ratio = samples.ratio.map_or(String::new(), |ratio| {
        format!(" <span class=\"ratio\">{}</span>", show_ratio(ratio))
    });
    write!(
        page,
        "<td title=\"rounds: {}\">{}{ratio}</td>",
        escape(&all.join(", ")),
        measure.show(median)
    )
}

fn problems(report: &Report, page: &mut String) -> std::fmt::Result {
    if report.problems.is_empty() {
        return Ok(());
    }
    page.write_str(
        "<section aria-labelledby=\"problems\">\n<h2 id=\"problems\">Not measured</h2>\n<ul>\n",
    )?;
    for problem in &report.problems {
        writeln!(
            page,
            "<li>{}, round {}, {}: {}</li>",
            escape(&problem.peer),
            problem.round + 1,
            escape(&problem.stage),
            escape(&problem.reason)
        )?;
    }
    page.write_str("</ul>\n</section>\n")
}

fn footer(report: &Report, page: &mut String) -> std::fmt::Result {
    page.write_str("<footer>\n<h2>What was measured</h2>\n<dl>\n")?;
    for peer in &report.peers {
        writeln!(
            page,
            "<dt>{}</dt><dd>{}</dd>",
            escape(&peer.name),
            escape(&peer.version)
        )?;
    }
    page.write_str(
        "</dl>\n<p>Pods, nodes and generators share the cores of one machine, in network namespaces. \
         Its speed drifts by 10 to 20 %, so the ratios of one sitting count, not the figures.</p>\n</footer>\n",
    )
}

#[cfg(test)]
mod tests {
    use super::super::measure;
    use super::super::report::tests::example;
    use super::*;

    const PEERS: [&str; 5] = [
        "farlane run",
        "farlane wg",
        "wireguard-go",
        "<nasty> & \"co\"",
        "plain",
    ];

    /// Opens and closes every element in order; the few that HTML never closes are known.
    fn is_well_formed(page: &str) -> Result<(), String> {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page;
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').ok_or("an element that does not end")?;
            let inside = &rest[at + 1..end];
            rest = &rest[end + 1..];
            let name = inside.split([' ', '\n']).next().unwrap_or("");
            if let Some(name) = name.strip_prefix('/') {
                match open.pop() {
                    Some(last) if last == name => {}
                    last => return Err(format!("</{name}> closes {last:?}")),
                }
            } else if !inside.ends_with('/') && !["!DOCTYPE", "meta", "br"].contains(&name) {
                open.push(name);
            }
        }
        match open.is_empty() {
            true => Ok(()),
            false => Err(format!("still open: {open:?}")),
        }
    }

    #[test]
    fn the_page_is_well_formed_whatever_a_peer_is_called() {
        let page = render(&example(&PEERS, 3));
        is_well_formed(&page).unwrap();
        assert!(page.contains("&lt;nasty&gt; &amp; &quot;co&quot;") && !page.contains("<nasty>"));
    }

    #[test]
    fn every_measure_has_a_row_and_every_plot_a_title_and_its_values_as_text() {
        let page = render(&example(&PEERS, 3));
        for measure in measure::all() {
            assert!(
                page.contains(&format!("data-measure=\"{}\"", measure.key)),
                "{}",
                measure.key
            );
        }
        let plots = page.matches("<svg ").count();
        let bars: usize = BARS.iter().map(|(_, _, measures)| measures.len()).sum();
        assert_eq!(plots, bars + SITUATIONS.len() + 2);
        assert_eq!(page.matches("role=\"img\"").count(), plots);
        assert_eq!(page.matches("<desc").count(), plots);
    }

    #[test]
    fn the_page_refers_to_nothing_outside() {
        let page = render(&example(&PEERS, 3));
        for word in [
            "http:", "https:", "src=", "url(", "@import", "<script", "<link",
        ] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn a_report_of_nothing_is_a_page_without_plots_and_numbers_are_never_strange() {
        let mut report = example(&["farlane run"], 1);
        let page = render(&report);
        is_well_formed(&page).unwrap();
        assert!(!page.contains("NaN") && !page.contains("inf"));
        report.measures.clear();
        report.round_trips.clear();
        let page = render(&report);
        is_well_formed(&page).unwrap();
        assert!(!page.contains("<svg "));
    }
}
