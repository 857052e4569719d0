//! Two lanes against each other under virtual time, on a wire that can lose, keep and forge.
//!
//! ```text
//!   left 192.0.2.1:1000 ── wire, 10 ms ── right 192.0.2.2:2000
//!   pods 10.0.0.1                          pods 10.0.0.2
//! ```
//!
//! The rules that other implementations broke, and who holds them here:
//!
//! - longest-prefix match over all allowed IPs names the sender: `roaming`; under nesting
//!   `the_longest_prefix_of_all_peers_names_the_sender`, against a linear scan in `packet`
//! - the message limit comes before the counter: `session.rs`,
//!   `the_message_limit_is_asked_before_the_counter_is_added_to`; counters are `u64`
//! - a cookie covers address and port: `cookie.rs`,
//!   `a_cookie_counts_for_its_address_and_port_and_no_other`
//! - one attacker's flood is his own trouble: `load`,
//!   `one_source_that_floods_brings_nobody_but_itself_into_cookie_mode`
//! - a cookie reply moves no endpoint, what is authentic does: `load`, `roaming`
//! - keep-alives are not answered, nor sent while data flows: `keepalive`
//! - a changed pre-shared key waits for the next handshake: `handshake`,
//!   `a_changed_preshared_key_is_used_at_the_next_handshake_and_tears_nothing`
//! - receiver indices are unpredictable and unique: `indices.rs`
//! - clocks may step: `handshake`, `a_clock_that_…`
//! - a datagram longer than any buffer is dropped: `garbage`; none can be longer than the driver's
//! - a partial sendmmsg loses nothing: `driver`, `a_full_send_buffer_loses_nothing_and_keeps_the_order`
//! - inner lengths: `inner.rs`, `padding_is_cut_off_and_a_packet_longer_than_its_message_refused`
//! - nothing unauthenticated is answered, but a right first MAC under load, by less: `garbage`,
//!   `fuzz`, `load`
//! - public keys of low order are refused: `bounds`, and ephemeral ones in `handshake.rs`
//! - no IPv6 on the host is no error: `driver`, `a_host_without_ipv6_is_listened_on_by_ipv4_alone`
//! - data of the previous session is opened while the new one is unconfirmed, and nothing is sent
//!   in that before it was heard in: `rekey`, `handshake`
//! - packets that wait are bounded and sent in order: `bounds`, `handshake`

mod against_boringtun;
mod allowed;
mod bounds;
mod fuzz;
mod garbage;
mod handshake;
mod keepalive;
mod load;
mod rekey;
mod roaming;
mod threads;
mod train;
mod world;
