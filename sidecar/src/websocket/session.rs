//! One call over a WebSocket that is open: messages both ways until either side has said everything.
//!
//! ```text
//!  socket ─ text ─► waiting ─► SocketRequests ─► upstream        nothing is read while a message waits: back-pressure
//!  socket ◄─ text ─ AnswerBody, one frame a message ◄─ upstream  the next is asked for when this one is out
//! ```

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Response;
use http::request::Parts;
use http_body::Body;
use mesh_transcode::status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use crate::body::AnswerBody;
use crate::call::Call;
use crate::progress::Progress;
use crate::reason::Rejection;
use crate::translate::{Caller, Requests, Translation};
use crate::upstream::cluster::Cluster;
use crate::ways::upstream;
use crate::wire::{Order, Pulse};
use crate::worker::View;

/// How much is read and written at once, in bytes.
const BUFFER_BYTES: usize = 16 << 10;
/// A caller that takes nothing for this long is given up.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// How often the caller is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// One that says nothing for this long, not even that it is there, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long the caller may take to say goodbye.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Longest reason in a close, in bytes (RFC 6455 5.5).
const CLOSE_REASON_BYTES_MAX: usize = 123;
/// Close codes of failures: this, and the gRPC code.
const CLOSE_CODES: u16 = 4_000;

/// A call whose socket is about to open.
pub(crate) struct Session {
    pub(crate) view: Rc<View>,
    pub(crate) cluster: Rc<Cluster>,
    pub(crate) head: Parts,
    pub(crate) caller: Caller,
    pub(crate) service: usize,
    pub(crate) call: Box<Call>,
}

/// How it ended, for the caller.
struct Close {
    code: u16,
    reason: String,
}

impl Close {
    fn new(code: impl Into<u16>, reason: &str) -> Self {
        let end = (0..=reason.len().min(CLOSE_REASON_BYTES_MAX))
            .rev()
            .find(|at| reason.is_char_boundary(*at));
        Self {
            code: code.into(),
            reason: reason.get(..end.unwrap_or(0)).unwrap_or_default().to_owned(),
        }
    }

    fn of_status(code: u16, reason: &str) -> Self {
        match code {
            0 => Self::new(CloseCode::Normal, ""),
            code => Self::new(CLOSE_CODES + code.min(16), reason),
        }
    }
}

/// Why a socket is done with: it is to be closed, or it is gone.
type Over = Option<Close>;

impl Session {
    /// Serves it on the connection that was its handshake's. `early`: what the caller sent right behind that.
    pub(crate) async fn run<S>(self, stream: S, early: Bytes, pulse: Rc<Pulse>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let entry = &self.view.snapshot.services[self.service];
        let bytes_max = entry.transcoding.limits.message_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(bytes_max))
            .max_frame_size(Some(bytes_max));
        let stream =
            WebSocketStream::from_partially_read(stream, early.to_vec(), Role::Server, Some(config)).await;
        let mut socket = Socket {
            stream,
            heard: Instant::now(),
        };
        let over = tokio::select! {
            over = self.talk(&mut socket) => Some(over),
            () = cut(&pulse) => None,
        };
        match over {
            Some(Some(close)) => socket.close(close).await,
            Some(None) => {}
            None => {
                socket
                    .close(Close::new(
                        CloseCode::Away,
                        "this connection has to end; come again",
                    ))
                    .await;
            }
        }
    }

    async fn talk<S>(self, socket: &mut Socket<S>) -> Over
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            view,
            cluster,
            mut head,
            caller,
            service,
            mut call,
        } = self;
        let entry = &view.snapshot.services[service];
        let (into, from) = mpsc::channel(1);
        let mut translation = Translation::new(caller, call.rpc.as_deref().unwrap_or(""), entry);
        let asked = match translation.socket(&mut head, from) {
            Ok(requests) => requests,
            Err(rejection) => return socket.refuse(call, &rejection).await,
        };
        let takes_messages = !matches!(asked, Requests::One(_));
        let body = match translation.asked(&mut head, asked, &call) {
            Ok(body) => body,
            Err(rejection) => return socket.refuse(call, &rejection).await,
        };
        call.http_status = 101;
        let mut ear = Ear {
            into: takes_messages.then_some(into),
            waiting: None,
            progress: call.ticket.progress.clone(),
        };
        let mut pings = pings();
        let begun = {
            let sending = upstream(&cluster, head, body, Some(translation), call);
            let mut sending = pin!(sending);
            loop {
                tokio::select! {
                    answered = sending.as_mut() => break answered,
                    over = ear.listen(socket) => if let Err(over) = over { return over },
                    _ = pings.tick() => if let Err(over) = socket.ping(&ear).await { return over },
                }
            }
        };
        match begun {
            Ok(response) => Self::pass_on(socket, response, ear).await,
            Err((call, rejection)) => socket.refuse(call, &rejection).await,
        }
    }

    /// Tells the caller what the service says, while it listens to the caller.
    async fn pass_on<S>(socket: &mut Socket<S>, response: Response<AnswerBody>, mut ear: Ear) -> Over
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut body = response.into_body();
        let mut pings = pings();
        let mut last = String::new();
        loop {
            let frame = tokio::select! {
                frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
                over = ear.listen(socket) => match over {
                    Err(over) => return over,
                    Ok(()) => continue,
                },
                _ = pings.tick() => match socket.ping(&ear).await {
                    Err(over) => return over,
                    Ok(()) => continue,
                },
            };
            match frame {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let text = String::from_utf8_lossy(&data).into_owned();
                    last.clone_from(&text);
                    if let Err(over) = socket.say(Message::text(text)).await {
                        return over;
                    }
                }
                // What it ended with was said before; the close repeats it in short.
                None => {
                    let code = body.grpc_status().unwrap_or(2);
                    let reason = if code == 0 {
                        String::new()
                    } else {
                        reason_in(&last)
                    };
                    return Some(Close::of_status(code, &reason));
                }
                Some(Err(error)) => {
                    return Some(Close::new(CloseCode::Error, &error.to_string()));
                }
            }
        }
    }
}

/// Waits until the connection has to end now. Being told to go elsewhere, it may finish what it does.
async fn cut(pulse: &Pulse) {
    poll_fn(|cx| {
        loop {
            match pulse.take_order(cx) {
                None => return Poll::Pending,
                Some(Order::GoAway | Order::Ping) => {}
                Some(Order::Cut(_)) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// When to ask whether the caller is there; not at once.
fn pings() -> tokio::time::Interval {
    tokio::time::interval_at((Instant::now() + PING_INTERVAL).into(), PING_INTERVAL)
}

/// The message of an error that was said.
fn reason_in(last: &str) -> String {
    let error: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
    error["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// What the caller says on its way to the service.
struct Ear {
    /// Gone when the caller has said everything.
    into: Option<mpsc::Sender<Bytes>>,
    waiting: Option<Bytes>,
    progress: Rc<Progress>,
}

impl Ear {
    /// Takes one step: hears one message, or hands one on. May be dropped at any time without losing anything.
    async fn listen<S>(&mut self, socket: &mut Socket<S>) -> Result<(), Over>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.waiting.is_some()
            && let Some(into) = &self.into
        {
            match into.reserve().await {
                Ok(place) => {
                    if let Some(message) = self.waiting.take() {
                        place.send(message);
                    }
                }
                // The service takes no more: it is about to say why.
                Err(_) => self.waiting = None,
            }
            return Ok(());
        }
        let Some(text) = socket.hear().await? else {
            return Ok(());
        };
        self.progress.came(text.len());
        match (&self.into, text.is_empty()) {
            (Some(_), true) => self.into = None,
            (Some(_), false) => self.waiting = Some(text),
            (None, true) => {}
            (None, false) => {
                return Err(Some(Close::new(
                    CloseCode::Policy,
                    "the stream was ended already",
                )));
            }
        }
        Ok(())
    }
}

struct Socket<S> {
    stream: WebSocketStream<S>,
    /// When the caller last said anything.
    heard: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// The next text; nothing for what has no meaning here.
    async fn hear(&mut self) -> Result<Option<Bytes>, Over> {
        let Some(message) = self.stream.next().await else {
            return Err(None);
        };
        self.heard = Instant::now();
        match message {
            Ok(Message::Text(text)) => Ok(Some(text.into())),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(None),
            Ok(Message::Binary(_)) => Err(Some(Close::new(
                CloseCode::Unsupported,
                "messages are JSON, in text messages",
            ))),
            Ok(Message::Close(_)) => {
                // The reply is written already, and goes out now.
                let _ = tokio::time::timeout(CLOSE_WAIT, self.stream.flush()).await;
                Err(None)
            }
            Err(error) => Err(match error {
                Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                    Some(Close::new(CloseCode::Size, "the message is over the limit"))
                }
                Error::Utf8(_) => Some(Close::new(CloseCode::Invalid, "a text message must be UTF-8")),
                Error::Protocol(_) | Error::AttackAttempt => {
                    Some(Close::new(CloseCode::Protocol, "this is not WebSocket"))
                }
                _ => None,
            }),
        }
    }

    /// Says one message, and does not return before it is out.
    async fn say(&mut self, message: Message) -> Result<(), Over> {
        match tokio::time::timeout(WRITE_STALL, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }

    /// Asks whether the caller is there. While a message of its waits, nothing is read, and its silence says nothing.
    async fn ping(&mut self, ear: &Ear) -> Result<(), Over> {
        if ear.waiting.is_some() {
            self.heard = Instant::now();
        }
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(None);
        }
        self.say(Message::Ping(Bytes::new())).await
    }

    /// Refuses a call whose socket is open.
    async fn refuse(&mut self, mut call: Box<Call>, rejection: &Rejection) -> Over {
        call.http_status = 101;
        call.refused(rejection);
        let error = status::body(&rejection.status(), None);
        let text = format!("{{\"error\":{}}}", String::from_utf8_lossy(&error));
        self.say(Message::text(text)).await.err().flatten();
        Some(Close::of_status(rejection.reason.grpc(), &rejection.message))
    }

    /// Says goodbye, and waits for the caller's, boundedly.
    async fn close(&mut self, close: Close) {
        let frame = CloseFrame {
            code: close.code.into(),
            reason: close.reason.into(),
        };
        let goodbye = async {
            self.stream.close(Some(frame)).await?;
            while let Some(message) = self.stream.next().await {
                message?;
            }
            Ok::<(), Error>(())
        };
        let _ = tokio::time::timeout(CLOSE_WAIT, goodbye).await;
    }
}
