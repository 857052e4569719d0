//! What of the kernel runs, and what does not, and why: for `status`.

/// One feature, probed by trying it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Dotted, in camelCase: `tun.tso4`, `udp.segmentation`.
    pub name: &'static str,
    /// Whether it runs now.
    pub on: bool,
    /// Why not, or with what result; empty where there is nothing to say.
    pub why: String,
}

impl Feature {
    pub(crate) fn new(name: &'static str, on: bool, why: impl Into<String>) -> Feature {
        Feature {
            name,
            on,
            why: why.into(),
        }
    }
}
