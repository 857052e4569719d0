//! The node's socket: HTTP with JSON, for the other verbs and for programs.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::report::Status;
use crate::explain::{BATCH_BYTES, Explainer, Question};
use crate::flows::{Board, Named};

/// Batches that are answered at once: the cores are the workers' first of all, and each batch holds
/// memory for its answers.
const BATCHES: usize = 1;

/// Something that only the control thread can answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// `GET /status`.
    Status(oneshot::Sender<Status>),
    /// `POST /explain` and `POST /explain/batch`: whom to ask about what is in force.
    Explain(oneshot::Sender<Arc<Explainer>>),
}

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody answers on it.
    #[error("{0} is in use: a node runs already; stop it, or give this one another `socket`")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot make the socket {path}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// The socket; its file goes with it.
pub(crate) struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves on `path`; a socket that a killed node left is replaced.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) fn listen(
        path: &Path,
        requests: mpsc::Sender<Request>,
        board: Arc<Board>,
    ) -> Result<Server, ServerError> {
        let io = |error| ServerError::Io {
            path: path.to_owned(),
            error,
        };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(ServerError::InUse(path.to_owned()));
        }
        remove_stale(path).map_err(io)?;
        let listener = UnixListener::bind(path).map_err(io)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
        let limit = DefaultBodyLimit::max(BATCH_BYTES);
        let router = Router::new()
            .route("/status", get(status))
            .route("/flows", get(flows))
            .route("/explain", post(explain))
            .route("/explain/batch", post(explain_batch).layer(limit))
            .with_state(Asked {
                requests,
                batches: Arc::new(Semaphore::new(BATCHES)),
                board,
            });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the socket is no longer served");
            }
        });
        Ok(Server {
            path: path.to_owned(),
            task,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Nothing more can be done for a file that does not go.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody serves any more, and says whether there was one.
///
/// # Errors
/// What the system said, or that there is something else, which is not ours to remove.
pub(crate) fn remove_stale(path: &Path) -> std::io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map(|()| true),
        Ok(_) => Err(std::io::Error::other(
            "something that is no socket lies there; name another path",
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What every handler has.
#[derive(Clone)]
struct Asked {
    requests: mpsc::Sender<Request>,
    batches: Arc<Semaphore>,
    board: Arc<Board>,
}

impl Asked {
    /// What control answers; `None` where it answers no more.
    async fn control<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

async fn status(State(asked): State<Asked>) -> Response {
    let status = asked.control(Request::Status).await;
    status.map_or_else(ending, |status| Json(status).into_response())
}

async fn explain(State(asked): State<Asked>, Json(question): Json<Question>) -> Response {
    let Some(explainer) = asked.control(Request::Explain).await else {
        return ending();
    };
    match explainer.answer(&question) {
        Ok(answer) => Json(answer).into_response(),
        Err(sentence) => (StatusCode::BAD_REQUEST, sentence).into_response(),
    }
}

/// JSON lines in and out. A thread of its own answers: control is not to wait for it.
async fn explain_batch(State(asked): State<Asked>, lines: Bytes) -> Response {
    let Ok(_permit) = asked.batches.acquire().await else {
        return ending();
    };
    let Some(explainer) = asked.control(Request::Explain).await else {
        return ending();
    };
    let answered = tokio::task::spawn_blocking(move || explainer.answer_body(&lines)).await;
    match answered {
        Ok(answers) => ([(CONTENT_TYPE, "application/x-ndjson")], answers).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is asked of `GET /flows`.
#[derive(Deserialize)]
struct Flows {
    /// Whether the answer goes on with what comes.
    #[serde(default)]
    follow: bool,
}

/// Flow records as JSON lines, oldest first. To who follows an empty line ends what was remembered;
/// if it is too slow for what comes, it is told how many it missed: `{"missed":7}`.
async fn flows(State(asked): State<Asked>, Query(query): Query<Flows>) -> Response {
    let board = asked.board;
    let body = if query.follow {
        let (past, coming) = board.follow();
        let past = written(&board, past).await + "\n";
        let coming = stream::unfold((coming, board), async |(mut coming, board)| {
            let line = match coming.recv().await {
                Ok(named) => board.line(&named),
                Err(RecvError::Lagged(missed)) => format!("{{\"missed\":{missed}}}\n"),
                Err(RecvError::Closed) => return None,
            };
            Some((line, (coming, board)))
        });
        let all = stream::once(async { past }).chain(coming);
        Body::from_stream(all.map(Ok::<_, std::convert::Infallible>))
    } else {
        Body::from(written(&board, board.remembered()).await)
    };
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Records as lines. A thread of its own writes them: control is not to wait for thousands.
async fn written(board: &Arc<Board>, records: Vec<Arc<Named>>) -> String {
    let board = Arc::clone(board);
    let lines = move || records.iter().map(|named| board.line(named)).collect();
    let written = tokio::task::spawn_blocking(lines).await;
    written.unwrap_or_default()
}

fn ending() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the node is ending").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let path = std::env::temp_dir().join(format!("farlane-server-{}", std::process::id()));
        std::fs::write(&path, "dear").expect("writable");
        assert!(remove_stale(&path).is_err());
        std::fs::remove_file(&path).expect("still there");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        drop(listener);
        assert!(remove_stale(&path).expect("removed"));
        assert!(!remove_stale(&path).expect("nothing there"));
    }
}
