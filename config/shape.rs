//! Names that must have a certain shape because other systems will read them.

/// What is wrong with the name of a cluster, if anything (Cilium `pkg/clustermesh/types`:
/// at most 32 characters, `^([a-z0-9][-a-z0-9]*)?[a-z0-9]$`, and not `default`).
pub(crate) fn cluster_name(name: &str) -> Result<(), &'static str> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() || name.len() > 32 {
        Err("a cluster's name has 1 to 32 characters")
    } else if !name.bytes().all(inner) {
        Err("a cluster's name is made of a-z, 0-9 and -")
    } else if name.starts_with('-') || name.ends_with('-') {
        Err("a cluster's name begins and ends with a letter or a digit")
    } else if name == "default" {
        Err("`default` is what a cluster without a mesh is called; take another name")
    } else {
        Ok(())
    }
}

/// What is wrong with the name of a node, if anything (RFC 1123 §2.1, as Kubernetes has it).
pub(crate) fn node_name(name: &str) -> Result<(), &'static str> {
    let good = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    if name.len() <= 253 && name.split('.').all(good) {
        Ok(())
    } else {
        Err("a node's name is at most 253 of a-z, 0-9, - and .")
    }
}

/// What is wrong with the name of a network device, if anything (Linux `dev_valid_name`, and
/// `IFNAMSIZ` of `include/uapi/linux/if.h`, which counts the closing zero). Shells and nft want
/// less than the kernel allows.
pub(crate) fn device_name(name: &str) -> Result<(), &'static str> {
    let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 15 {
        Err("a device's name has 1 to 15 characters")
    } else if !name.bytes().all(good) || name.bytes().all(|c| c == b'.') {
        Err("a device's name is made of letters, digits, - _ and .")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clusters_follow_ciliums_rule() {
        for good in ["eu", "1", "a-b", &"x".repeat(32)] {
            assert_eq!(cluster_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "Eu", "a.b", "default", &"x".repeat(33)] {
            assert!(cluster_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_devices_fit_the_kernel() {
        assert_eq!(device_name("farlane0"), Ok(()));
        for bad in ["", "..", "a b", "a/b", "sixteen-letters-"] {
            assert!(device_name(bad).is_err(), "{bad}");
        }
    }
}
