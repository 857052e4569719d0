//! What passes on the underlay meanwhile: the tunnel's packets, and nothing in the clear.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::Demo;
use crate::lab::error::LabError;
use crate::lab::program::{self, Program};
use crate::lab::world::NODES;

/// WireGuard's ports on the underlay: the node's, and one for each further lane.
const PORTS: &str = "51871-51886";
/// Neighbour discovery and listener reports are no packets of anybody's.
const CLEAR: &str = "(udp or tcp or icmp or sctp or (icmp6 and (ip6[40] < 130 or ip6[40] > 137)))";

/// A running capture.
pub(super) struct Capture {
    path: PathBuf,
    program: Program,
}

/// Begins to capture: in the clear, and the tunnel's.
pub(super) fn watch(demo: &Demo) -> Result<[Capture; 2], LabError> {
    let tunnel = format!("udp portrange {PORTS}");
    let clear = capture(demo, "clear", &format!("{CLEAR} and not {tunnel}"))?;
    let tunnel = capture(demo, "tunnel", &tunnel)?;
    // tcpdump writes its file's header when it listens.
    let begun = |capture: &Capture| capture.path.metadata().is_ok_and(|file| file.len() >= 24);
    let both = || begun(&clear) && begun(&tunnel);
    match demo
        .world
        .interrupt()
        .eventually(Duration::from_secs(10), both)?
    {
        true => Ok([clear, tunnel]),
        false => Err(LabError::step("tcpdump", "does not start")),
    }
}

fn capture(demo: &Demo, name: &str, what: &str) -> Result<Capture, LabError> {
    let path = demo.world.dir().join(format!("{name}.pcap"));
    let (file, node) = (path.display().to_string(), &NODES[0]);
    let words = [
        "tcpdump", "-n", "-U", "-s", "96", "-i", node.wire, "-w", &file, what,
    ];
    Ok(Capture {
        program: demo.world.start(node.name, &words)?,
        path,
    })
}

/// Ends both and counts.
pub(super) fn show(demo: &mut Demo, captures: [Capture; 2]) -> Result<(), LabError> {
    demo.world.interrupt().sleep(Duration::from_millis(500))?;
    let [clear, tunnel] = captures.map(|mut capture| {
        capture.program.stop();
        capture.path
    });
    let read = |path: PathBuf| {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.arg("-n").arg("-r").arg(path);
        program::run(
            &mut tcpdump,
            demo.world.interrupt(),
            Duration::from_secs(20),
        )
    };
    let (clear, tunnel) = (read(clear)?, read(tunnel)?.lines().count());
    for line in clear.lines().take(5) {
        println!("in the clear on the underlay: {line}");
    }
    let clear = clear.lines().count();
    demo.judge(clear == 0, || {
        format!("{clear} packets on the underlay were not the tunnel's")
    });
    demo.judge(tunnel > 0, || "nothing went through the tunnel".to_owned());
    let counts = json!({"tunnelPackets": tunnel, "clearPackets": clear});
    demo.seen.insert("underlay".into(), counts);
    println!("\nOn the underlay meanwhile: {tunnel} packets of the tunnel, {clear} in the clear");
    Ok(())
}
