//! What happens around the interface while it runs: a signal, a change of its link, of the routes or
//! of its socket's file. One thread waits for all of it, and tells the worker.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use driver::{Link, LinkState};
use futures_util::{StreamExt as _, TryStreamExt as _};
use notify::{RecursiveMode, Watcher as _};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::socket;
use crate::mailbox::{MailError, Mailbox};

/// What may move the way to a peer: routes, rules, and addresses that come or go.
const ROUTES: [MulticastGroup; 6] = [
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];
/// Changes seldom come alone; so long is waited for the others.
const LINK_PAUSE: Duration = Duration::from_millis(20);
/// The same for routes, whose changes cost a question for each peer.
const ROUTE_PAUSE: Duration = Duration::from_millis(200);
/// The same for the socket's file: who removes its directory removes the file before.
const SOCKET_PAUSE: Duration = Duration::from_millis(100);
/// When it is tried again to ask the link, or to tell the worker of it.
const RETRY: Duration = Duration::from_millis(500);

/// Begins to watch, in the network namespace of this thread: the one where the interface was born.
///
/// # Errors
/// What the system says where there is no thread or no signal handler to be had. What can only be
/// watched in part is said in the log, and is no error.
pub(super) fn start(mailbox: &Arc<Mailbox>, link: Link, path: PathBuf) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    for (what, task) in [
        ("links", watch_link(Arc::clone(mailbox), link)),
        ("routes", watch_routes(Arc::clone(mailbox))),
    ] {
        if let Err(error) = task {
            tracing::warn!(%error, "changes of {what} go unseen");
        }
    }
    let for_socket = Arc::clone(mailbox);
    tokio::spawn(async move {
        if let Err(error) = watch_socket(for_socket, &path).await {
            tracing::warn!(%error, "nobody sees whether {} is there", path.display());
        }
    });
    drop(inside);
    let mailbox = Arc::clone(mailbox);
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        mailbox.stop();
    };
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// A connection to the kernel's routing, and the bell that rings at each change in `groups`, of this
/// network namespace or of all that it knows of.
fn listen(groups: &[MulticastGroup], everywhere: bool) -> io::Result<(Handle, Arc<Notify>)> {
    let (mut connection, handle, mut events) = rtnetlink::new_multicast_connection(groups)?;
    let socket = connection.socket_mut().socket_mut();
    socket.set_listen_all_namespaces(everywhere)?;
    let bell = Arc::new(Notify::new());
    let ringing = Arc::clone(&bell);
    tokio::spawn(connection);
    // This one does nothing else, so that the queue of events never grows.
    tokio::spawn(async move {
        while events.next().await.is_some() {
            ringing.notify_one();
        }
    });
    Ok((handle, bell))
}

/// Tells the worker the MTU of the link, up to which packets are padded, wherever the link is. The
/// kernel gives the namespace that it moves to a number in the one that it leaves, so that its
/// changes are still heard (Linux `net/core/dev.c`, `__dev_change_net_namespace`).
fn watch_link(mailbox: Arc<Mailbox>, link: Link) -> io::Result<()> {
    let (handle, changed) = listen(&[MulticastGroup::Link], true)?;
    tokio::spawn(async move {
        let _open = handle;
        let tell = |mtu| mailbox.ask(move |desk| desk.forwarder.set_mtu(desk.now, mtu));
        follow_link(&changed, || link.state(), tell).await;
    });
    Ok(())
}

/// Tells each MTU of the link until it is deleted, which is the worker's to see. What fails is tried
/// again: nobody announces that it would work now.
async fn follow_link(
    changed: &Notify,
    ask: impl Fn() -> io::Result<Option<LinkState>>,
    tell: impl Fn(usize) -> Result<(), MailError>,
) {
    let (mut last, mut failing) = (None, false);
    loop {
        let followed = match ask() {
            Ok(None) => return,
            Ok(Some(state)) if last.as_ref() == Some(&state) => Ok(()),
            Ok(Some(state)) => {
                tracing::debug!(?state, "the link");
                let told = tell(state.mtu as usize).map_err(|error| error.to_string());
                last = told.is_ok().then_some(state);
                told
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = followed {
            if !failing {
                tracing::warn!("the link's MTU cannot be followed for now: {why}");
            }
            failing = true;
            sleep(RETRY).await;
            continue;
        }
        failing = false;
        changed.notified().await;
        sleep(LINK_PAUSE).await;
    }
}

/// Looks at the peers' paths after each change of routes.
fn watch_routes(mailbox: Arc<Mailbox>) -> io::Result<()> {
    let (handle, changed) = listen(&ROUTES, false)?;
    tokio::spawn(async move {
        let look = || forget_stale(Arc::clone(&mailbox), handle.clone());
        after_changes(&changed, look).await;
    });
    Ok(())
}

/// Looks some time after each change, and once more where that failed: the change is still unseen.
async fn after_changes<F: Future<Output = Result<(), MailError>>>(
    changed: &Notify,
    look: impl Fn() -> F,
) {
    loop {
        changed.notified().await;
        sleep(ROUTE_PAUSE).await;
        if let Err(error) = look().await {
            tracing::debug!(%error, "the routes are looked at again");
            changed.notify_one();
        }
    }
}

/// Sees whether answers to each peer would still leave by the interface that it was heard by; if
/// not, the routing tables choose the source address, too. An address that is gone altogether needs
/// nobody: the kernel refuses it as a source.
async fn forget_stale(mailbox: Arc<Mailbox>, handle: Handle) -> Result<(), MailError> {
    let (mark, paths) = mailbox.ask(|desk| {
        let lane = desk.forwarder.lane(0).into_iter();
        let paths: Vec<_> = lane.flat_map(tunnel::Lane::paths).collect();
        (desk.engine.mark(), paths)
    })?;
    let mut stale = Vec::new();
    for (peer, path) in paths {
        if leads_elsewhere(&handle, path, mark).await {
            stale.push((peer, path));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    tracing::debug!(peers = stale.len(), "routed anew");
    mailbox.ask(move |desk| {
        if let Some(lane) = desk.forwarder.lane_mut(0) {
            for (peer, path) in stale {
                lane.forget_local(peer, path);
            }
        }
    })
}

/// Whether what leaves by this path leaves by another interface than its answers came by, or not at
/// all.
async fn leads_elsewhere(handle: &Handle, path: packet::Path, mark: u32) -> bool {
    let Some(local) = path.local.filter(|local| local.interface != 0) else {
        return false;
    };
    let question: RouteMessage = match (path.remote.ip(), local.address) {
        (IpAddr::V4(to), IpAddr::V4(from)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(to, 32)
            .source_prefix(from, 32)
            .mark(mark)
            .build(),
        // The interface is part of the other end's address.
        (IpAddr::V6(to), _) if to.is_unicast_link_local() => return false,
        (IpAddr::V6(to), IpAddr::V6(from)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(to, 128)
            .source_prefix(from, 128)
            .mark(mark)
            .build(),
        _ => return false,
    };
    let mut answers = pin!(handle.route().get(question).execute());
    let Ok(Some(route)) = answers.try_next().await else {
        return true;
    };
    !route
        .attributes
        .contains(&RouteAttribute::Oif(local.interface))
}

/// Sees that the socket stays. Who removes the file of a WireGuard program wants its end, as others
/// do it (wireguard-go `ipc/uapi_linux.go`); where the whole directory is gone, somebody has cleaned
/// up who did not mean us, and it is made anew.
async fn watch_socket(mailbox: Arc<Mailbox>, path: &Path) -> notify::Result<()> {
    let bell = Arc::new(Notify::new());
    let ringing = Arc::clone(&bell);
    let mut watcher = notify::recommended_watcher(move |_: notify::Result<notify::Event>| {
        ringing.notify_one();
    })?;
    let directory = path.parent().unwrap_or(path);
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    loop {
        if !path.exists() {
            sleep(SOCKET_PAUSE).await;
            if directory.exists() && !path.exists() {
                tracing::info!("the socket was removed");
                mailbox.stop();
                return Ok(());
            }
            serve(&mailbox, socket::bind(path)?)?;
            tracing::warn!("{} was gone, and is made anew", directory.display());
            // The old watch went with the old directory.
            let _ = watcher.unwatch(directory);
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        bell.notified().await;
    }
}

/// Serves `wg` on a thread of its own.
pub(super) fn serve(mailbox: &Arc<Mailbox>, listener: UnixListener) -> io::Result<()> {
    let mailbox = Arc::clone(mailbox);
    std::thread::Builder::new()
        .name("wg-socket".into())
        .spawn(move || socket::serve(&listener, &mailbox))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn block_on(future: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().build().expect("a runtime");
        let future = async { tokio::time::timeout(RETRY * 20, future).await };
        runtime.block_on(future).expect("in time");
    }

    #[test]
    fn a_link_is_followed_through_every_failure_until_it_is_deleted() {
        let link = |mtu| {
            Ok(Some(LinkState {
                name: "wg0".into(),
                mtu,
                up: true,
            }))
        };
        let no_file = Err(io::Error::other("too many open files"));
        let answers = [no_file, link(1_420), link(1_420), link(1_280), Ok(None)];
        let answers = RefCell::new(answers.into_iter());
        let (changed, tried) = (Notify::new(), RefCell::new(Vec::new()));
        // Of the first MTU the worker has no time to hear.
        let tell = |mtu| {
            tried.borrow_mut().push(mtu);
            match tried.borrow().len() {
                1 => Err(MailError::Full),
                _ => {
                    changed.notify_one();
                    Ok(())
                }
            }
        };
        let ask = || answers.borrow_mut().next().expect("asked no more");
        block_on(follow_link(&changed, ask, tell));
        assert_eq!(tried.into_inner(), [1_420, 1_420, 1_280]);
    }

    #[test]
    fn a_change_of_routes_that_could_not_be_looked_at_is_not_forgotten() {
        let (changed, looks, seen) = (Notify::new(), Cell::new(0), Notify::new());
        let look = || {
            looks.set(looks.get() + 1);
            let fails = looks.get() < 3;
            if !fails {
                seen.notify_one();
            }
            async move { if fails { Err(MailError::Full) } else { Ok(()) } }
        };
        changed.notify_one();
        block_on(async {
            tokio::select! {
                () = after_changes(&changed, look) => {}
                () = seen.notified() => {}
            }
        });
        assert_eq!(looks.get(), 3);
    }
}
