//! What the kernel did not take, by cause: one line of one enum each.

macro_rules! dropped {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a device did not carry segments that it was given.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Dropped {
            $($(#[$doc])* $variant,)*
        }

        impl Dropped {
            /// Every cause, in the order of its number.
            pub const ALL: &'static [Dropped] = &[$(Dropped::$variant,)*];
            /// How many causes there are.
            pub const COUNT: usize = Dropped::ALL.len();

            /// The name that counters and status show.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Dropped::$variant => $name,)*
                }
            }
        }
    };
}

dropped! {
    /// The TUN is down (EIO): nobody listens behind it.
    PodsDown = "podsDown",
    /// The kernel found the frame wrong or had no memory for it.
    PodsRefused = "podsRefused",
    /// Longer than the path or UDP carries (EMSGSIZE).
    WireTooBig = "wireTooBig",
    /// No route, no neighbour, no address to send from, or the link is down.
    WireUnreachable = "wireUnreachable",
    /// A rule of this host forbids it (EPERM, EACCES).
    WireForbidden = "wireForbidden",
    /// The lane has no socket, or none of the remote's address family.
    WireNoSocket = "wireNoSocket",
    /// Any other error of the kernel's, such as no memory.
    WireRefused = "wireRefused",
}
