//! The node's socket: HTTP with JSON, for the other verbs and for programs.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::report::Status;
use crate::explain::{Answer, Question};

/// Something that only the control thread can answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// `GET /status`.
    Status(oneshot::Sender<Status>),
    /// `POST /explain`.
    Explain(Question, oneshot::Sender<Result<Answer, String>>),
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
    pub(super) fn listen(
        path: &Path,
        requests: mpsc::Sender<Request>,
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
        let router = Router::new()
            .route("/status", get(status))
            .route("/explain", post(explain))
            .with_state(requests);
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

async fn status(State(requests): State<mpsc::Sender<Request>>) -> Response {
    let (answer, answered) = oneshot::channel();
    if requests.send(Request::Status(answer)).await.is_err() {
        return ending();
    }
    answered
        .await
        .map_or_else(|_| ending(), |status| Json(status).into_response())
}

async fn explain(
    State(requests): State<mpsc::Sender<Request>>,
    Json(question): Json<Question>,
) -> Response {
    let (answer, answered) = oneshot::channel();
    if requests
        .send(Request::Explain(question, answer))
        .await
        .is_err()
    {
        return ending();
    }
    match answered.await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(sentence)) => (StatusCode::BAD_REQUEST, sentence).into_response(),
        Err(_) => ending(),
    }
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
