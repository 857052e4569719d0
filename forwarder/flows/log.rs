//! The log of flow records: JSON lines in a file that is rotated by its size.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use config::FlowLog;

use super::pen::Pen;
use super::{Board, Named};

/// Records that may wait for the disk.
const WAITING_MAX: usize = 4_096;
/// So many bytes are gathered, as far as records wait, before they are written.
const CHUNK: usize = 64 << 10;

/// The log's file, and the thread that writes it.
#[derive(Debug)]
pub(super) struct Log {
    disk: Option<Disk>,
    thread: Option<JoinHandle<()>>,
}

/// The way to the writer; it ends when this does.
#[derive(Debug)]
pub(super) struct Queue {
    records: SyncSender<Arc<Named>>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Opens the file, so that what is wrong with it is said at the start.
    pub(super) fn open(settings: &FlowLog) -> io::Result<Log> {
        Ok(Log {
            disk: Some(Disk::open(settings)?),
            thread: None,
        })
    }

    /// Begins to write; the thread is left in `place`.
    pub(super) fn start(mut self, board: Arc<Board>, place: &mut Option<Log>) -> io::Result<Queue> {
        let (records, waiting) = mpsc::sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        if let Some(disk) = self.disk.take() {
            let lost = Arc::clone(&lost);
            let thread = std::thread::Builder::new().name("flow-log".into());
            self.thread = Some(thread.spawn(move || write(&board, &waiting, disk, &lost))?);
        }
        *place = Some(self);
        Ok(Queue { records, lost })
    }

    /// Waits until all that was put is written; the queue must be gone.
    pub(super) fn end(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Leaves a record to the writer; if it is too far behind, the record is only counted.
    pub(super) fn put(&mut self, named: &Arc<Named>) {
        if self.records.try_send(Arc::clone(named)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many records are not in the log.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Writes until the queue ends. What cannot be written is lost and counted; the next is tried again.
fn write(board: &Board, waiting: &Receiver<Arc<Named>>, mut disk: Disk, lost: &AtomicU64) {
    let (mut chunk, mut pen, mut failing) = (Vec::with_capacity(CHUNK), Pen::new(), false);
    while let Ok(first) = waiting.recv() {
        let mut records = 1;
        chunk.clear();
        chunk.extend_from_slice(board.line(&first).as_bytes());
        while chunk.len() < CHUNK
            && let Ok(next) = waiting.try_recv()
        {
            chunk.extend_from_slice(board.line(&next).as_bytes());
            records += 1;
        }
        let written;
        (written, chunk) = disk.append(&mut pen, chunk);
        match written {
            Ok(()) => failing = false,
            Err(error) => {
                lost.fetch_add(records, Ordering::Relaxed);
                // Once for each time that it begins to fail.
                if !failing {
                    let path = disk.path.display();
                    tracing::error!(%path, %error, "flow records cannot be written");
                }
                failing = true;
            }
        }
    }
}

/// A file and its predecessors: `flows.jsonl`, `flows.jsonl.1` and so on, newest first.
#[derive(Debug)]
struct Disk {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl Disk {
    fn open(settings: &FlowLog) -> io::Result<Disk> {
        let named = |error: io::Error| {
            let path = settings.file.display();
            io::Error::new(
                error.kind(),
                format!("cannot open the flow log {path}: {error}"),
            )
        };
        if let Some(directory) = settings.file.parent() {
            fs::create_dir_all(directory).map_err(named)?;
        }
        let file = append_to(&settings.file).map_err(named)?;
        Ok(Disk {
            bytes: file.metadata().map_err(named)?.len(),
            path: settings.file.clone(),
            file,
            bytes_max: u64::from(settings.max_mib) << 20,
            files_max: settings.files,
        })
    }

    /// Writes whole lines; before that the file is rotated if they would make it too large.
    fn append(&mut self, pen: &mut Pen, lines: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let bytes = lines.len() as u64;
        if self.bytes > 0
            && self.bytes + bytes > self.bytes_max
            && let Err(error) = self.rotate()
        {
            return (Err(error), lines);
        }
        let (written, lines) = pen.append(&self.file, lines);
        // As much as there may be of what was not written whole.
        self.bytes += bytes;
        (written, lines)
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.files_max).rev() {
            let from = self.predecessor(number - 1);
            match fs::rename(&from, self.predecessor(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.files_max == 1 {
            fs::remove_file(&self.path)?;
        }
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }

    /// The file that is so many rotations old; 0 is the one that is written.
    fn predecessor(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Only its owner may read who speaks with whom.
fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_the_first_of_its_predecessors_and_the_oldest_goes() {
        let home = std::env::temp_dir().join(format!("farlane-log-{}", std::process::id()));
        let path = home.join("deep/flows.jsonl");
        let mut disk = Disk::open(&FlowLog {
            file: path.clone(),
            max_mib: 1,
            files: 3,
        })
        .expect("a directory of our own");
        disk.bytes_max = 10;
        // With the feature this is io_uring, where there is one.
        let mut pen = Pen::new();
        for line in ["1234567\n", "abcdefg\n", "ABCDEFG\n", "!\n", "last\n"] {
            disk.append(&mut pen, line.into()).0.expect("room");
        }
        let read = |name: &str| fs::read_to_string(home.join("deep").join(name)).ok();
        assert_eq!(read("flows.jsonl").as_deref(), Some("last\n"));
        assert_eq!(read("flows.jsonl.1").as_deref(), Some("ABCDEFG\n!\n"));
        assert_eq!(read("flows.jsonl.2").as_deref(), Some("abcdefg\n"));
        assert_eq!(read("flows.jsonl.3"), None);
        fs::remove_dir_all(&home).expect("ours");
    }
}
