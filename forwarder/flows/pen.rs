//! How lines get into the log's file: by plain writes, or with the feature `uring-log` by io_uring.

use std::fs::File;
use std::io::{self, Write};

/// Writes to files that are open for appending. It stays on the thread that made it.
pub(super) enum Pen {
    /// By write(2).
    Plain,
    /// By io_uring: the kernel's own threads wait for the disk.
    #[cfg(feature = "uring-log")]
    Ring(tokio_uring::Runtime),
}

impl Pen {
    /// The best that there is; where the kernel or a container's profile refuses io_uring that is
    /// write(2), and the log says so.
    pub(super) fn new() -> Pen {
        #[cfg(feature = "uring-log")]
        match tokio_uring::Runtime::new(&tokio_uring::builder()) {
            Ok(runtime) => return Pen::Ring(runtime),
            Err(error) => tracing::warn!(%error, "flow records are written without io_uring"),
        }
        Pen::Plain
    }

    /// Appends all of `lines`, and gives their memory back.
    pub(super) fn append(&mut self, file: &File, lines: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Pen::Plain => ((&*file).write_all(&lines), lines),
            #[cfg(feature = "uring-log")]
            Pen::Ring(runtime) => runtime.block_on(async {
                let file = match file.try_clone() {
                    Ok(file) => tokio_uring::fs::File::from_std(file),
                    Err(error) => return (Err(error), lines),
                };
                // Where a file is open for appending its end is where it is written, whatever the
                // offset (pwrite(2), BUGS).
                let (written, lines) = file.write_all_at(lines, 0).await;
                let closed = file.close().await;
                (written.and(closed), lines)
            }),
        }
    }
}
