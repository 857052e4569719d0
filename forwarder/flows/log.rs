//! The log of flow records: JSON lines in a file that is rotated by its size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::FlowLog;

use super::pen::Pen;
use super::{Board, Named};

/// Records that may wait for the disk.
const WAITING_MAX: usize = 4_096;
/// How long the node's end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);
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

    /// Waits until all that was put is written, but for a disk that hangs; the queue must be gone.
    pub(super) fn end(mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let until = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            if Instant::now() >= until {
                tracing::error!("the flow log's disk hangs: its last records are lost");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = thread.join();
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
    /// Of whole lines in the file.
    bytes: u64,
    bytes_max: u64,
    /// At how many bytes it is to be rotated.
    rotated_at: u64,
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
        let (file, bytes) = append_to(&settings.file).map_err(named)?;
        let bytes_max = u64::from(settings.max_mib) << 20;
        Ok(Disk {
            path: settings.file.clone(),
            file,
            bytes,
            bytes_max,
            rotated_at: bytes_max,
            files_max: settings.files,
        })
    }

    /// Writes whole lines, or none of them; before that the file is rotated if they would make it too
    /// large.
    fn append(&mut self, pen: &mut Pen, lines: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let bytes = lines.len() as u64;
        if !self.is_in_place()
            && let Err(error) = self.begin()
        {
            return (Err(error), lines);
        }
        if self.bytes > 0
            && self.bytes + bytes > self.rotated_at
            && let Err(error) = self.rotate()
        {
            // Better a file that is too large than records that are lost; it is tried again later.
            let path = self.path.display();
            tracing::error!(%path, %error, "the flow log cannot be rotated");
            self.rotated_at += self.bytes_max;
        }
        let (written, lines) = pen.append(&self.file, lines);
        match &written {
            Ok(()) => self.bytes += bytes,
            // Half a line would spoil the next one.
            Err(_) => drop(self.file.set_len(self.bytes)),
        }
        (written, lines)
    }

    /// Whether the file still has its name: who moved or removed it wants another.
    fn is_in_place(&self) -> bool {
        let open = self.file.metadata();
        let named = fs::metadata(&self.path);
        matches!((open, named), (Ok(open), Ok(named))
            if (open.dev(), open.ino()) == (named.dev(), named.ino()))
    }

    /// Goes on with the file that has the name, or with a new one.
    fn begin(&mut self) -> io::Result<()> {
        (self.file, self.bytes) = append_to(&self.path)?;
        self.rotated_at = self.bytes_max;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // First what may be refused: if it is, nothing else has moved.
        let aside = self.predecessor(0);
        fs::rename(&self.path, &aside)?;
        for number in (1..self.files_max).rev() {
            match fs::rename(self.predecessor(number - 1), self.predecessor(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It goes on, longer than it should be, and the next one does not replace it.
                    fs::rename(&aside, &self.path)?;
                    return Err(error);
                }
                _ => {}
            }
        }
        if self.files_max == 1 {
            fs::remove_file(&aside)?;
        }
        self.begin()
    }

    /// The file that is so many rotations old; 0 is the one on its way to become the first.
    fn predecessor(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

/// Opens a file to go on with it, and says how long it is; it ends with a whole line. Only its owner
/// may read who speaks with whom.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        // A pipe that nobody reads must not hold up the start.
        .custom_flags(NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other(
            "it is no regular file, and cannot be rotated",
        ));
    }
    let mut last = [b'\n'];
    if metadata.len() > 0 {
        file.read_exact_at(&mut last, metadata.len() - 1)?;
    }
    // Who was killed in the middle of a line.
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// O_NONBLOCK of Linux on every architecture that Farlane runs on.
const NONBLOCK: i32 = 0o4000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of three files of ten bytes in a directory that is gone with it.
    struct Scratch {
        home: PathBuf,
        disk: Disk,
        pen: Pen,
    }

    impl Scratch {
        fn new(name: &str, files: u32) -> Scratch {
            let home = format!("farlane-log-{name}-{}", std::process::id());
            let home = std::env::temp_dir().join(home);
            let mut disk = Disk::open(&FlowLog {
                file: home.join("deep/flows.jsonl"),
                max_mib: 1,
                files,
            })
            .expect("a directory of our own");
            (disk.bytes_max, disk.rotated_at) = (10, 10);
            // With the feature this is io_uring, where there is one.
            let pen = Pen::new();
            Scratch { home, disk, pen }
        }

        fn append(&mut self, line: &str) {
            let written = self.disk.append(&mut self.pen, line.into()).0;
            written.expect("room");
        }

        fn path(&self, end: &str) -> PathBuf {
            self.home.join(format!("deep/flows.jsonl{end}"))
        }

        fn read(&self, end: &str) -> Option<String> {
            fs::read_to_string(self.path(end)).ok()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.home);
        }
    }

    #[test]
    fn a_full_file_becomes_the_first_of_its_predecessors_and_the_oldest_goes() {
        let mut log = Scratch::new("rotated", 3);
        for line in ["1234567\n", "abcdefg\n", "ABCDEFG\n", "!\n", "last\n"] {
            log.append(line);
        }
        assert_eq!(log.read("").as_deref(), Some("last\n"));
        assert_eq!(log.read(".1").as_deref(), Some("ABCDEFG\n!\n"));
        assert_eq!(log.read(".2").as_deref(), Some("abcdefg\n"));
        assert_eq!((log.read(".3"), log.read(".0")), (None, None));
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let mut log = Scratch::new("alone", 1);
        for line in ["1234567\n", "abcdefg\n"] {
            log.append(line);
        }
        assert_eq!(log.read("").as_deref(), Some("abcdefg\n"));
        assert_eq!((log.read(".0"), log.read(".1")), (None, None));
    }

    #[test]
    fn a_file_that_was_moved_or_removed_is_followed_by_another() {
        let mut log = Scratch::new("moved", 2);
        log.append("one\n");
        fs::rename(log.path(""), log.path(".moved")).expect("ours");
        log.append("two\n");
        assert_eq!(log.read(".moved").as_deref(), Some("one\n"));
        assert_eq!(log.read("").as_deref(), Some("two\n"));
        fs::remove_file(log.path("")).expect("ours");
        log.append("three\n");
        assert_eq!(log.read("").as_deref(), Some("three\n"));
    }

    #[test]
    fn where_a_file_cannot_be_rotated_nothing_is_lost_and_nothing_older_moves() {
        let mut log = Scratch::new("stuck", 3);
        log.append("older\n");
        log.append("old!!!!\n");
        // A directory in the way of the first step, which even root cannot rename over.
        fs::create_dir_all(log.path(".0/full")).expect("ours");
        log.append("new!!!!\n");
        assert_eq!(log.read(".1").as_deref(), Some("older\n"));
        assert_eq!(log.read("").as_deref(), Some("old!!!!\nnew!!!!\n"));
        fs::remove_dir_all(log.path(".0")).expect("ours");
        log.append("next!!!\n");
        assert_eq!(log.read(".1").as_deref(), Some("old!!!!\nnew!!!!\n"));
        assert_eq!(log.read("").as_deref(), Some("next!!!\n"));
    }

    #[test]
    fn where_an_older_file_cannot_move_the_newest_goes_on() {
        let mut log = Scratch::new("wedged", 3);
        log.append("older\n");
        log.append("old!!!!\n");
        fs::create_dir_all(log.path(".2/full")).expect("ours");
        for line in ["new!!!!\n", "newest!\n"] {
            log.append(line);
        }
        assert_eq!(log.read(".1").as_deref(), Some("older\n"));
        assert_eq!(log.read("").as_deref(), Some("old!!!!\nnew!!!!\nnewest!\n"));
        assert_eq!(log.read(".0"), None);
    }

    #[test]
    fn half_a_line_of_before_is_ended_and_what_is_no_file_is_refused() {
        let log = Scratch::new("half", 2);
        fs::write(log.path(""), "{\"half").expect("ours");
        let (_, bytes) = append_to(&log.path("")).expect("a file");
        assert_eq!(log.read("").as_deref(), Some("{\"half\n"));
        assert_eq!(bytes, 7);
        assert!(append_to(Path::new("/dev/null")).is_err());
        assert!(append_to(&log.home).is_err());
    }
}
