//! Connections to the query program, some of which are kept between questions.
//!
//! A program that says `Connection: keep-alive` is asked again over the same connection, which spares it a new one. Some
//! programs attend to one connection at a time, so one that lies idle must not stand in the way of another: when a question
//! over a new connection has no answer after [`PATIENCE`], all that lie idle are closed, and none is kept until it has.
//! An idle one is closed after [`KEPT`], before any usual server closes it. A question goes out once: only where a kept
//! connection ended before it was sent, it is sent over a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HeaderMap};
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, sleep, timeout};

/// The longest head of an answer, and the most that is read ahead of one.
const READ_AHEAD: usize = 64 * 1024;
/// How long a connection is kept without a question. The shortest of usual servers is 2 s (gunicorn), Node's 5 s.
const KEPT: Duration = Duration::from_secs(1);
/// Time between two looks whether a connection's time is over.
const LOOK: Duration = Duration::from_millis(500);
/// How long a question over a new connection waits before idle ones are closed for it.
const PATIENCE: Duration = Duration::from_millis(2);
/// How many lie idle at most.
const MOST: usize = 6;
/// How long a program that does not keep a connection may take to end it, after its answer.
const TO_END: Duration = Duration::from_millis(50);
/// How long a connection may take to be ready again after an answer's last byte.
const TO_BE_READY: Duration = Duration::from_millis(100);

/// What is known of a program's connections; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    /// Questions that have waited too long for idle connections to be kept.
    waiting: usize,
    idle: Vec<Line>,
}

/// A connection, until it is dropped.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// When it is closed, whatever is under way on it.
    until: Arc<Mutex<Instant>>,
    /// Dropped, it ends whoever carries the connection; told to, that one leaves the end to the program.
    used: oneshot::Sender<()>,
}

impl Line {
    fn last_until(&self, end: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// A question on its way: its turn, and the connection it is put over, until its answer has been passed on.
#[derive(Debug)]
pub struct Visit {
    lines: Lines,
    line: Option<Line>,
    turn: Option<OwnedSemaphorePermit>,
    deadline: Instant,
    is_kept: bool,
    /// Whether the program has said that it ends the connection.
    is_ended: bool,
}

impl Lines {
    /// Begins a question that has its `turn` and is over at `deadline`.
    pub fn visit(&self, turn: Option<OwnedSemaphorePermit>, deadline: Instant) -> Visit {
        let mut inside = self.inside();
        inside.idle.retain(|line| !line.sender.is_closed());
        let line = inside.idle.pop();
        drop(inside);
        if let Some(line) = &line {
            line.last_until(deadline);
        }
        Visit {
            lines: self.clone(),
            line,
            turn,
            deadline,
            is_kept: false,
            is_ended: false,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection, if it may be.
    fn keep(&self, line: Line) {
        let mut inside = self.inside();
        if inside.waiting == 0 && inside.idle.len() < MOST {
            line.last_until(Instant::now() + KEPT);
            inside.idle.push(line);
        }
    }

    /// Closes idle connections until it is dropped.
    fn wait(&self) -> Waiting {
        let mut inside = self.inside();
        inside.waiting += 1;
        inside.idle.clear();
        Waiting(self.clone())
    }
}

/// A question for which idle connections are closed.
struct Waiting(Lines);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.inside().waiting -= 1;
    }
}

impl Visit {
    /// Sends `request` over the connection that was kept; `None` if there was none, or it ended before that.
    ///
    /// # Errors
    /// It was sent, and there is no answer.
    pub async fn ask_again(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Option<Response<Incoming>>, hyper::Error> {
        let Some(line) = &mut self.line else {
            return Ok(None);
        };
        match line.sender.try_send_request(request).await {
            Ok(response) => Ok(Some(response)),
            Err(unsent) if unsent.message().is_some() => {
                self.line = None;
                Ok(None)
            }
            Err(err) => Err(err.into_error()),
        }
    }

    /// Sends `request` over `stream`.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &mut self,
        stream: TcpStream,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_AHEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        let until = Arc::new(Mutex::new(self.deadline));
        let (used, unused) = oneshot::channel();
        tokio::spawn(carry(connection, Arc::clone(&until), unused));
        let line = self.line.insert(Line {
            sender,
            until,
            used,
        });
        let answer = line.sender.send_request(request);
        tokio::pin!(answer);
        if let Ok(answer) = timeout(PATIENCE, answer.as_mut()).await {
            return answer;
        }
        let _waiting = self.lines.wait();
        answer.await
    }

    /// Takes from the head of the answer whether the program keeps the connection, or ends it.
    pub fn heed(&mut self, version: Version, headers: &HeaderMap) {
        let says = |what: &str| {
            headers.get_all(CONNECTION).iter().any(|value| {
                let mut words = value.to_str().unwrap_or_default().split(',');
                words.any(|word| word.trim().eq_ignore_ascii_case(what))
            })
        };
        self.is_kept = says("keep-alive");
        self.is_ended = !self.is_kept && (version < Version::HTTP_11 || says("close"));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (lines, turn) = (self.lines.clone(), self.turn.take());
        let Some(mut line) = self.line.take() else {
            return;
        };
        if !self.is_kept {
            if self.is_ended {
                let _ = line.used.send(());
            }
            return;
        }
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(TO_BE_READY, line.sender.ready()).await {
                lines.keep(line);
            }
            drop(turn);
        });
    }
}

/// Carries `connection` until it ends, its time is over, or nobody has a use for it. Its time is looked at every [`LOOK`]: a
/// timer that is set earlier with each question would wake this thread once more for each.
async fn carry(
    connection: http1::Connection<TokioIo<TcpStream>, Full<Bytes>>,
    until: Arc<Mutex<Instant>>,
    mut unused: oneshot::Receiver<()>,
) {
    let connection = connection.without_shutdown();
    tokio::pin!(connection);
    loop {
        let now = Instant::now();
        if now >= *until.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
        tokio::select! {
            ended = connection.as_mut() => {
                // It ends with its line, too, which wants no more of it then.
                if unused.try_recv() != Err(TryRecvError::Closed) {
                    leave(ended).await;
                }
                return;
            }
            used = &mut unused => {
                if used.is_ok() && let Ok(ended) = timeout(TO_END, connection).await {
                    leave(ended).await;
                }
                return;
            }
            () = sleep(LOOK) => {}
        }
    }
}

/// Leaves it to the program to end the connection. Whoever ends one first keeps its port for a minute; with thousands of
/// those here, each next connection looks long for a free one.
async fn leave(ended: hyper::Result<http1::Parts<TokioIo<TcpStream>>>) {
    if let Ok(parts) = ended {
        let mut stream = parts.io.into_inner();
        let _ = timeout(TO_END, stream.read(&mut [0; 16])).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        Request::post("/").body(Full::default()).unwrap()
    }

    /// Asks once, as the program's caller does; tells whether that was over a connection that was kept.
    async fn ask(lines: &Lines, listener: &TcpListener) -> (bool, Visit) {
        let mut visit = lines.visit(None, Instant::now() + Duration::from_secs(5));
        if let Some(response) = visit.ask_again(request()).await.unwrap() {
            visit.heed(response.version(), response.headers());
            return (true, visit);
        }
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let response = visit.ask(stream.unwrap(), request()).await.unwrap();
        visit.heed(response.version(), response.headers());
        (false, visit)
    }

    /// Answers every request on every connection at once.
    fn serve(listener: Arc<TcpListener>, answer: &'static str) {
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(1..) = stream.read(&mut bytes).await {
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
    }

    async fn idle(lines: &Lines, count: usize) {
        for _ in 0..500 {
            if lines.inside().idle.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{} lie idle, not {count}", lines.inside().idle.len());
    }

    const KEEPS: &str = "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    const ENDS: &str = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
    const SILENT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn one_that_the_program_keeps_is_taken_again_and_another_is_not() {
        for (answer, expected) in [(KEEPS, true), (SILENT, false)] {
            let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
            serve(Arc::clone(&listener), answer);
            let lines = Lines::default();
            assert!(!ask(&lines, &listener).await.0);
            idle(&lines, usize::from(expected)).await;
            assert_eq!(ask(&lines, &listener).await.0, expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn several_are_kept_of_a_program_that_attends_to_several() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        serve(Arc::clone(&listener), KEEPS);
        let lines = Lines::default();
        let (_, first) = ask(&lines, &listener).await;
        let (again, second) = ask(&lines, &listener).await;
        assert!(!again, "the first one's is in use");
        drop((first, second));
        idle(&lines, 2).await;
    }

    #[tokio::test]
    async fn a_program_of_one_connection_at_a_time_is_not_kept_from_the_next() {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let serving = Arc::clone(&listener);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = serving.accept().await {
                while let Ok(1..) = stream.read(&mut [0; 4096]).await {
                    stream.write_all(KEEPS.as_bytes()).await.unwrap();
                }
            }
        });
        let lines = Lines::default();
        let (_, first) = ask(&lines, &listener).await;
        let begun = Instant::now();
        let second = async {
            let (again, visit) = ask(&lines, &listener).await;
            assert!(!again);
            visit
        };
        let release = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(second, release);
        assert!(begun.elapsed() < KEPT / 2, "{:?}", begun.elapsed());
        assert_eq!(lines.inside().waiting, 0);
        drop(second);
        idle(&lines, 1).await;
    }

    #[tokio::test]
    async fn one_that_has_ended_meanwhile_is_replaced_and_one_that_is_idle_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lines = Lines::default();
        let ((_, visit), stream) = tokio::join!(ask(&lines, &listener), once(&listener));
        drop((visit, stream));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let ((again, visit), mut stream) = tokio::join!(ask(&lines, &listener), once(&listener));
        assert!(!again);
        drop(visit);
        let begun = Instant::now();
        let end = timeout(KEPT * 3, stream.read(&mut [0; 16])).await;
        assert!(
            matches!(end, Ok(Ok(0))),
            "{end:?} after {:?}",
            begun.elapsed()
        );
    }

    #[tokio::test]
    async fn the_program_that_keeps_no_connection_ends_it_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lines = Lines::default();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(ENDS.as_bytes()).await.unwrap();
            let early = timeout(TO_END / 5, stream.read(&mut [0; 16])).await;
            assert!(early.is_err(), "it is not ended from here: {early:?}");
            stream.shutdown().await.unwrap();
            let end = timeout(TO_END * 5, stream.read(&mut [0; 16])).await;
            assert!(matches!(end, Ok(Ok(0))), "{end:?}");
        };
        let asking = async { drop(ask(&lines, &listener).await) };
        tokio::join!(serving, asking);
    }

    #[tokio::test]
    async fn a_program_that_says_nothing_of_it_has_its_connection_ended_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (answer, wait) in [(SILENT, TO_END), (ENDS, TO_END * 10)] {
            let lines = Lines::default();
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                let end = timeout(wait, stream.read(&mut [0; 16])).await;
                assert!(matches!(end, Ok(Ok(0))), "{answer}: {end:?}");
            };
            let asking = async { drop(ask(&lines, &listener).await) };
            tokio::join!(serving, asking);
        }
    }

    async fn once(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(KEEPS.as_bytes()).await.unwrap();
        stream
    }
}
