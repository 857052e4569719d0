//! A host without IPv6, where even making such a socket fails.

use driver::{Udp, UdpSettings};

/// Has the kernel refuse this thread every socket of IPv6, as one does that was booted with
/// `ipv6.disable=1`: a seccomp filter, which is the thread's own and ends with it.
fn without_ipv6() {
    let rule = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, equal, give) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    // The number of the call is the first word of `seccomp_data`, its first argument the fifth.
    let mut rules = [
        rule(load, 0, 0, 0),
        rule(equal, 0, 3, libc::SYS_socket as u32),
        rule(load, 0, 0, 16),
        rule(equal, 0, 1, libc::AF_INET6 as u32),
        rule(
            give,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32,
        ),
        rule(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: rules.len() as u16,
        filter: rules.as_mut_ptr(),
    };
    // SAFETY: both calls change this thread alone; `program` and the rules that it points at outlive
    // the second, which copies them.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ),
        ]
    };
    assert_eq!(results, [0, 0], "{}", std::io::Error::last_os_error());
}

#[test]
fn a_host_without_ipv6_is_listened_on_by_ipv4_alone() {
    let test = || {
        without_ipv6();
        let listen = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            Udp::bind(0, UdpSettings::on(addresses.collect()))
        };
        let lane = listen(&["0.0.0.0:0", "[::]:0"]).unwrap();
        let families: Vec<_> = lane.addresses().iter().map(|a| a.is_ipv4()).collect();
        assert_eq!(families, [true]);
        assert_ne!(lane.port(), 0);
        // Who names an address wants it.
        assert!(listen(&["0.0.0.0:0", "[::1]:0"]).is_err());
    };
    if let Err(panic) = std::thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}
