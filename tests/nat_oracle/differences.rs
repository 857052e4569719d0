//! Where ours and the kernel's differ, and why: each line is a difference that the test expects, in every script that
//! it covers. What is only a matter of numbers is in `compare::normal`.

use crate::compare::Difference;
use crate::compare::Way::{
    Contents, KernelAnswers, KernelDrops, Moment, Number, Source, WeAnswer, WeDrop,
};
use crate::talk::Family;

const V4: Option<Family> = Some(Family::V4);
const V6: Option<Family> = Some(Family::V6);
const BOTH: Option<Family> = None;

pub(crate) const CONNECTIONS: &[Difference] = &[
    Difference {
        scripts: &[
            "plain tcp: the middle of an unknown connection",
            "plain tcp: the end of an unknown connection",
            "plain tcp: a reset of an unknown connection",
        ],
        family: BOTH,
        ways: &[KernelDrops],
        why: "without a service nothing is lost if a connection is taken up in its middle: a node that was started \
              again goes on with what it finds, and policy judges it as any other",
    },
    Difference {
        scripts: &[
            "tcp: the middle of an unknown connection",
            "tcp: the end of an unknown connection",
            "tcp: to begin with: no flags",
            "tcp: to begin with: FIN alone",
        ],
        family: BOTH,
        ways: &[WeAnswer],
        why: "through a service it cannot be taken up, since nobody knows its backend any more: we reset it \
              (RFC 9293 §3.10.7.1), so that its client does not wait for minutes, and the kernel is silent",
    },
    Difference {
        scripts: &["*tcp: a segment size that nobody carries"],
        family: BOTH,
        ways: &[Contents],
        why: "we lower the segment size that a SYN announces to what the node carries (RFC 4459 §3.2), the kernel only \
              where a rule says so",
    },
    Difference {
        scripts: &[
            "*tcp: in a connection: *",
            "plain tcp: to begin with: no flags",
            "plain tcp: to begin with: FIN alone",
            "*tcp: to begin with: SYN and *",
        ],
        family: BOTH,
        ways: &[KernelDrops],
        why: "conntrack has a list of flags that may stand together (tcp_valid_flags); that is for the receiver to \
              decide (RFC 9293 §3.10.7), and a service wants a SYN from us, whatever stands beside it",
    },
    Difference {
        scripts: &[
            "*tcp: an ACK before the answer",
            "*tcp: data outside of the window",
            "*tcp: a blind RST",
        ],
        family: BOTH,
        ways: &[KernelDrops],
        why: "conntrack follows the windows and states of TCP; ours leaves it to the receiver to refuse what is out of \
              place (RFC 5961 §3 to §5), and what is in place passes both afterwards",
    },
    Difference {
        scripts: &["*sctp: the middle of an unknown association"],
        family: BOTH,
        ways: &[KernelDrops],
        why: "conntrack wants an INIT first; with us the backend, which does not know the association either, aborts \
              it (RFC 9260 §8.4), so that the client opens it anew",
    },
    Difference {
        scripts: &["udp: without a checksum"],
        family: V6,
        ways: &[WeDrop],
        why: "RFC 8200 §8.1 asks for a checksum, and without one nothing says that a changed address has arrived; the \
              kernel translates it all the same",
    },
    Difference {
        scripts: &["udp: the same ports by the backend's own address"],
        family: BOTH,
        ways: &[WeDrop],
        why: "the answers of both conversations would be the same packets; the kernel gives the second one another \
              source port, we leave a client's ports alone and refuse it by name (flowClash)",
    },
    Difference {
        scripts: &[
            "icmp: type 9",
            "icmp: type 10",
            "icmp: type 14",
            "icmp: type 30",
            "icmp: type 42",
            "icmp: type 130",
            "icmp: type 133",
            "icmp: type 135",
            "icmp: type 143",
        ],
        family: V4,
        ways: &[KernelDrops],
        why: "conntrack knows four requests by their type, and nothing else of ICMP may begin a conversation; we let \
              policy judge it, known or not",
    },
    Difference {
        scripts: &["icmp: type 137", "icmp: type 160", "icmp: type 200"],
        family: BOTH,
        ways: &[KernelDrops],
        why: "as above; an ICMPv6 redirect (137) is void behind the first router, by its hop limit (RFC 4861 §8.1)",
    },
];

const FROM_THE_SERVICE: &str = "the kernel lets every error about a translated packet come from the service, its own and routers' too \
     (nf_nat_icmp_reply_translation: to look like the reply); with us it comes from who made it: RFC 5508 §4.2 leaves \
     its source alone, and traceroute lives on that";
const OPTIONS: &str = "the kernel answers a header that it cannot read (RFC 1812 §5.2.2 allows that), we drop it silently";
const NO_HOST: &str = "RFC 1812 §5.3.7: no host has such an address; the kernel refuses 0.0.0.0 alone of 0/8, and nothing of 240/4 \
     since 2.6.25";
const HOP_BY_HOP: &str = "the kernel does as a hop-by-hop option says; a router may ignore them (RFC 8200 §4), and one that is unknown is \
     no reason for us to drop";

pub(crate) const HEADERS: &[Difference] = &[
    Difference {
        scripts: &[
            "TTL 0 from the client",
            "TTL 1 from the client",
            "TTL 1 in the first packet",
            "TTL 1 of a long packet",
            "TTL 1 of a wrong checksum",
        ],
        family: BOTH,
        ways: &[Source],
        why: FROM_THE_SERVICE,
    },
    Difference {
        scripts: &["TTL 1 with a DSCP"],
        family: V6,
        ways: &[Source],
        why: FROM_THE_SERVICE,
    },
    Difference {
        scripts: &["*TTL 1 with a DSCP"],
        family: V4,
        ways: &[Contents],
        why: "the kernel takes bits of the offender's class over into its error; RFC 1812 §4.3.2.5 asks for the \
              precedence alone, and RFC 1349 §5.1 for no type of service",
    },
    Difference {
        scripts: &["*option: record route", "*option: time stamp"],
        family: V4,
        ways: &[Contents],
        why: "the kernel adds its own address, and its time; ours leaves options as they are: it is no hop that wants \
              to be seen (RFC 7126 §4.5 and §4.7 would even drop such packets)",
    },
    Difference {
        scripts: &["*option: of length zero", "*option: longer than the header"],
        family: V4,
        ways: &[KernelAnswers],
        why: OPTIONS,
    },
    Difference {
        scripts: &["*option: record route with a bad pointer"],
        family: V4,
        ways: &[Number],
        why: "the kernel reads the route, and complains; we do not, and it passes",
    },
    Difference {
        scripts: &[
            "*a source of this network",
            "*a destination of this network",
            "*a source reserved",
            "*a destination reserved",
        ],
        family: V4,
        ways: &[WeDrop],
        why: NO_HOST,
    },
    Difference {
        scripts: &[
            "*extension: hop-by-hop unknown, discard",
            "*extension: hop-by-hop with a broken option",
        ],
        family: V6,
        ways: &[KernelDrops],
        why: HOP_BY_HOP,
    },
    Difference {
        scripts: &["*extension: hop-by-hop unknown, report*"],
        family: V6,
        ways: &[Number],
        why: HOP_BY_HOP,
    },
    Difference {
        scripts: &[
            "*extension: routing of type 4 on its way",
            "*extension: routing of type 0",
        ],
        family: V6,
        ways: &[WeDrop],
        why: "the kernel looks at a routing header only where it is addressed itself; we let none pass that has a way \
              to go, for policy would judge another than the last destination, and none of type 0 (RFC 5095)",
    },
    Difference {
        scripts: &["extension: mobility"],
        family: V6,
        ways: &[KernelDrops, Contents],
        why: "the kernel does not see through this header (ipv6_ext_hdr), and so finds neither the service's port nor \
              the answer's",
    },
    Difference {
        scripts: &["*extension: an atomic fragment"],
        family: V6,
        ways: &[Contents],
        why: "the kernel makes it whole at once, and leaves the fragment header out; ours passes as it is (RFC 6946)",
    },
    Difference {
        scripts: &["*extension: hop-by-hop that is not the first"],
        family: V6,
        ways: &[WeDrop],
        why: "RFC 8200 §4.1 allows it in front only; the kernel does not look behind",
    },
    Difference {
        scripts: &["nothing behind the header"],
        family: V6,
        ways: &[WeAnswer],
        why: "to conntrack it is invalid; to us it is a packet without ports, and the service has none of those",
    },
    Difference {
        scripts: &["plain nothing behind the header"],
        family: V6,
        ways: &[KernelDrops],
        why: "to conntrack it is invalid; to us it is a packet without ports",
    },
];

pub(crate) const ERRORS: &[Difference] = &[
    Difference {
        scripts: &[
            "udp: unreachable * from a router",
            "tcp: unreachable * from a router",
            "udp: packet too big * from a router",
            "tcp: packet too big * from a router",
            "udp: time exceeded * from a router",
            "tcp: time exceeded * from a router",
            "udp: parameter problem * from a router",
            "tcp: parameter problem * from a router",
        ],
        family: BOTH,
        ways: &[Source],
        why: FROM_THE_SERVICE,
    },
    Difference {
        scripts: &[
            "udp: source quench 0 from a router",
            "tcp: source quench 0 from a router",
        ],
        family: V4,
        ways: &[Source],
        why: FROM_THE_SERVICE,
    },
    Difference {
        scripts: &[
            "udp: private error 0 from a router",
            "tcp: private error 0 from a router",
            "udp: reserved error 0 from a router",
            "tcp: reserved error 0 from a router",
        ],
        family: V6,
        ways: &[Source],
        why: FROM_THE_SERVICE,
    },
    Difference {
        scripts: &["*whose: the error has a wrong checksum"],
        family: BOTH,
        ways: &[KernelDrops],
        why: "the kernel sums an error anew, and so has to look whether it was right (nf_nat_icmp_reply_translation); \
              ours changes by the difference, and stays as wrong, for its receiver to see",
    },
    Difference {
        scripts: &["*quote from *: another version"],
        family: BOTH,
        ways: &[WeDrop],
        why: "the kernel does not look at a quote's version; what is not of this family was not sent by who is told",
    },
    Difference {
        scripts: &[
            "tcp: quote from *: eighteen bytes of the transport",
            "tcp: quote from *: nineteen bytes of the transport",
        ],
        family: BOTH,
        ways: &[Contents],
        why: "the kernel keeps a quoted segment's checksum right only where all twenty bytes of its header are quoted, \
              we do wherever the checksum is",
    },
    Difference {
        scripts: &[
            "plain *: quote from *: seven bytes of the transport",
            "plain *: quote from *: four bytes of the transport",
        ],
        family: BOTH,
        ways: &[WeDrop],
        why: "RFC 792 promises eight bytes; the kernel does with four where it has nothing to translate",
    },
];

const WHOLE: &str = "conntrack makes a datagram whole before any of it passes, and the kernel cuts it again as it was; with us each \
     fragment passes as it comes";
const BEFORE: &str = "what comes before the first fragment is not kept: it has no ports, so a service refuses it by name \
     (serviceFragment), and of an answer it passes as what the backend sends of its own accord";

pub(crate) const FRAGMENTS: &[Difference] = &[
    Difference {
        scripts: &[
            "*: * in order",
            "*: the first before the others, which are exchanged",
            "plain *: backwards",
        ],
        family: BOTH,
        ways: &[Moment],
        why: WHOLE,
    },
    Difference {
        scripts: &["*: one comes twice"],
        family: BOTH,
        ways: &[Moment],
        why: "both take the copy out; else as above",
    },
    Difference {
        scripts: &["question: backwards"],
        family: BOTH,
        ways: &[Number],
        why: BEFORE,
    },
    Difference {
        scripts: &["answer: backwards"],
        family: BOTH,
        ways: &[KernelDrops, Number],
        why: BEFORE,
    },
    Difference {
        scripts: &["*: a tiny first one"],
        family: V4,
        ways: &[Moment],
        why: WHOLE,
    },
    Difference {
        scripts: &["*: a tiny first one"],
        family: V6,
        ways: &[KernelDrops, Contents],
        why: "the kernel makes it whole, and does not cut again what every link carries in one piece (RFC 8200 §5)",
    },
    Difference {
        scripts: &[
            "*: the last is lost",
            "plain *: the first is lost",
            "answer: the first is lost",
        ],
        family: BOTH,
        ways: &[KernelDrops],
        why: "what never becomes whole never passes conntrack; with us its receiver waits for it",
    },
    Difference {
        scripts: &["*: overlapping"],
        family: BOTH,
        ways: &[KernelDrops],
        why: "the kernel drops the whole datagram (RFC 5722), and so do we from the overlap on; what came before has \
              passed, and never becomes whole",
    },
    Difference {
        scripts: &[
            "plain *: a length that is no multiple of eight",
            "answer: a length that is no multiple of eight",
        ],
        family: V4,
        ways: &[KernelDrops],
        why: "we drop the fragment that cannot be, and the kernel has no whole without it",
    },
    Difference {
        scripts: &["*: an empty one"],
        family: BOTH,
        ways: &[KernelDrops],
        why: "we drop the empty fragment, and the kernel has no end of the other",
    },
    Difference {
        scripts: &["tcp by the backend's address: a header in two pieces"],
        family: V4,
        ways: &[Number],
        why: "the kernel puts the header together; we drop a tiny first fragment and what begins in the header \
              (RFC 1858 §3), and the rest finds no whole",
    },
    Difference {
        scripts: &["tcp by the backend's address: a header in two pieces"],
        family: V6,
        ways: &[KernelDrops],
        why: "RFC 7112 lets the kernel drop what has not its whole header in the first fragment, as we do; only the \
              last piece, which has none, passes us",
    },
];
