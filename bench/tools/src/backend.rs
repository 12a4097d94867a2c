//! The backend: answers every call at once, on one thread, with gathered writes, so that it costs little beside a proxy.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use mesh_bench_kit::gather::gather;
use mesh_bench_kit::net::{self, Outcome};
use mesh_bench_kit::{message, routes};
use tokio::net::TcpStream;

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
const STREAMS_MAX: u32 = 1_024;
/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 4 << 20;

struct Answers {
    order: Bytes,
    tick: Bytes,
}

/// Serves until it is killed.
pub async fn run(listen: SocketAddr) -> Outcome<()> {
    let listener = net::listen(listen)?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("ready {address}");
    let answers = Rc::new(Answers {
        order: message::frame(&message::order()),
        tick: message::frame(&message::tick()),
    });
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let answers = answers.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(stream, answers).await {
                // Proxies end connections as they like.
                if !error.is_io() && !error.is_go_away() {
                    eprintln!("backend: {error}");
                }
            }
        });
    }
}

async fn serve(stream: TcpStream, answers: Rc<Answers>) -> Result<(), h2::Error> {
    let (io, waiting) = gather(stream);
    let connection = async move {
        let mut connection = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            // A load that ends resets all its calls at once; some may not have been looked at. That is no attack here.
            .max_pending_accept_reset_streams(STREAMS_MAX as usize)
            .handshake::<_, Bytes>(io)
            .await?;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            let answers = answers.clone();
            tokio::task::spawn_local(async move {
                // A caller that went away is not a failure of the backend.
                let _ = answer(request, respond, &answers).await;
            });
        }
        Ok(())
    };
    waiting.drive(connection).await
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answers: &Answers,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let sent = read(&mut body).await?;
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let path = head.uri.path();
    let status = match path {
        message::ECHO => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(sent, false)?;
            return end(&mut stream, "0");
        }
        _ if path == message::GET || path.starts_with(routes::PREFIX) => {
            let mut stream = respond.send_response(response, false)?;
            stream.send_data(answers.order.clone(), false)?;
            return end(&mut stream, "0");
        }
        message::WATCH => match sent.get(5..).and_then(message::ticks_asked) {
            Some(count) => {
                let mut stream = respond.send_response(response, false)?;
                for _ in 0..count {
                    send_when_there_is_room(&mut stream, answers.tick.clone()).await?;
                }
                return end(&mut stream, "0");
            }
            None => "3",
        },
        _ => "12",
    };
    response
        .headers_mut()
        .insert("grpc-status", HeaderValue::from_static(status));
    respond.send_response(response, true).map(drop)
}

async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut whole = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        if whole.len() + first.len() + piece.len() > REQUEST_BYTES_MAX {
            return Err(h2::Reason::ENHANCE_YOUR_CALM.into());
        }
        // One piece is the common case; it is echoed as it is.
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            if whole.is_empty() {
                whole.extend_from_slice(&first);
                first = Bytes::new();
            }
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn send_when_there_is_room(stream: &mut SendStream<Bytes>, piece: Bytes) -> Result<(), h2::Error> {
    stream.reserve_capacity(piece.len());
    while stream.capacity() < piece.len() {
        if std::future::poll_fn(|cx| stream.poll_capacity(cx))
            .await
            .transpose()?
            .is_none()
        {
            return Err(h2::Reason::CANCEL.into());
        }
    }
    stream.send_data(piece, false)
}

fn end(stream: &mut SendStream<Bytes>, status: &'static str) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    stream.send_trailers(trailers)
}
