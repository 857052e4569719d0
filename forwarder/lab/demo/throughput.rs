//! How fast: iperf3 between two clients, over both families.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Demo, FAMILIES, print_table};
use crate::lab::error::LabError;

/// Less of it is next to nothing, in Gbit/s.
const FEWEST: f64 = 0.05;

const KINDS: [(&str, &[&str]); 3] = [
    ("TCP", &[]),
    ("TCP back", &["-R"]),
    ("UDP 300M", &["-u", "-b", "300M", "-l", "1300"]),
];

pub(super) fn show(demo: &mut Demo) -> Result<(), LabError> {
    let (client, server) = (
        demo.pod("eu-1/client").clone(),
        demo.pod("us-1/client").clone(),
    );
    demo.world
        .serve(&server.place, "iperf3", &["iperf3", "-s"], &[])?;
    let listens = || {
        let sockets = demo.world.run(&server.place, &["ss", "-ltnH"]);
        sockets.is_ok_and(|text| text.contains(":5201"))
    };
    if !demo
        .world
        .interrupt()
        .eventually(Duration::from_secs(5), listens)?
    {
        return Err(LabError::step("iperf3 -s", "does not listen"));
    }
    let (mut entries, mut rows) = (Vec::new(), Vec::new());
    for family in FAMILIES {
        for (kind, words) in KINDS {
            let iperf = ["iperf3", "-c", server.address(family), "-t", "4", "-J"];
            let text = demo
                .world
                .run(&client.place, &[&iperf[..], words].concat())?;
            let report: Value =
                serde_json::from_str(&text).map_err(|error| LabError::step("iperf3", error))?;
            let end = &report["end"];
            let total = [&end["sum_received"], &end["sum"]]
                .into_iter()
                .find(|sum| !sum.is_null());
            let rate = total
                .and_then(|sum| sum["bits_per_second"].as_f64())
                .unwrap_or(0.0)
                / 1e9;
            let rate = (rate * 1e3).round() / 1e3;
            demo.judge(rate > FEWEST, || {
                format!("iperf3 {kind} over {family} moves next to nothing")
            });
            let mut entry = json!({
                "from": client.label, "to": server.label, "family": family, "traffic": kind,
                "gbitPerSecond": rate,
            });
            let lost = end["sum"]["lost_percent"]
                .as_f64()
                .filter(|_| words.contains(&"-u"));
            if let Some(lost) = lost {
                entry["lostPercent"] = json!((lost * 1e3).round() / 1e3);
            }
            let lost = lost.map_or(String::new(), |lost| format!("{lost:.2} %"));
            rows.push(vec![
                kind.to_owned(),
                family.to_owned(),
                format!("{rate:.2}"),
                lost,
            ]);
            entries.push(entry);
        }
    }
    demo.seen.insert("throughput".into(), entries.into());
    println!(
        "\nThroughput from {} to {} (iperf3)",
        client.label, server.label
    );
    print_table(&["traffic", "family", "Gbit/s", "lost"], &rows);
    Ok(())
}
