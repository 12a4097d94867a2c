//! The caller: HTTP/1.1 written and read byte by byte, so that nothing is mended on the way, and HTTP/2 by hyper.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::Answer;
use super::backend::pairs;

/// No case may hang a test.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const AUTHORITY: &str = "golden.test";

/// A request to be made.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// As it stands on the wire.
    pub method: String,
    /// As it stands on the wire.
    pub target: String,
    /// Beside those of the framing.
    pub headers: Vec<(String, String)>,
    /// `None`: there is none.
    pub body: Option<Vec<u8>>,
    /// Sends it in chunks of so many bytes.
    pub chunks: Option<usize>,
    /// Leaves once this much of the answer's body was read.
    pub enough: Option<usize>,
}

impl Ask {
    /// Makes it over HTTP/1.1.
    pub async fn http1(&self, address: &str) -> Answer {
        let mut answer = Answer::default();
        let talk = async {
            let mut stream = TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            let wire = self.wire();
            let (mut reader, mut writer) = stream.split();
            // Who refuses early may not read all; and is answered at once.
            let write = async { drop(writer.write_all(&wire).await) };
            let read = read(&mut reader, self, &mut answer);
            tokio::pin!(write, read);
            let mut written = false;
            loop {
                tokio::select! {
                    () = &mut write, if !written => written = true,
                    result = &mut read => return result,
                }
            }
        };
        let ended = tokio::time::timeout(CALL_TIMEOUT, talk).await;
        answer.broken = match ended {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("nothing more came".into()),
        };
        answer
    }

    fn wire(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        if !has("host") {
            head.push_str(&format!("host: {AUTHORITY}\r\n"));
        }
        let framed = has("content-length") || has("transfer-encoding");
        match &self.body {
            Some(_) if self.chunks.is_some() => head.push_str("transfer-encoding: chunked\r\n"),
            Some(body) if !framed => head.push_str(&format!("content-length: {}\r\n", body.len())),
            None if !framed && !["GET", "HEAD", "OPTIONS", "DELETE"].contains(&self.method.as_str()) => {
                head.push_str("content-length: 0\r\n");
            }
            _ => {}
        }
        let mut wire = head.into_bytes();
        for (name, value) in &self.headers {
            wire.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        wire.extend(b"\r\n");
        let body = self.body.as_deref().unwrap_or_default();
        match self.chunks {
            None => wire.extend(body),
            Some(size) => {
                for chunk in body.chunks(size.max(1)) {
                    wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    wire.extend([chunk, b"\r\n"].concat());
                }
                wire.extend(b"0\r\n\r\n");
            }
        }
        wire
    }

    /// Makes it over HTTP/2; `None` where it cannot be said in HTTP/2.
    pub async fn http2(&self, address: &str) -> Option<Answer> {
        let uri: Uri = format!("http://{AUTHORITY}{}", self.target).parse().ok()?;
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(http::Version::HTTP_2);
        for (name, value) in &self.headers {
            request = request.header(name, value.as_bytes());
        }
        let pieces: Vec<Result<_, std::convert::Infallible>> = match (&self.body, self.chunks) {
            (None, _) => Vec::new(),
            (Some(body), None) => vec![Ok(hyper::body::Frame::data(Bytes::from(body.clone())))],
            (Some(body), Some(size)) => body
                .chunks(size.max(1))
                .map(|chunk| Ok(hyper::body::Frame::data(Bytes::copy_from_slice(chunk))))
                .collect(),
        };
        let body = if pieces.len() < 2 {
            let whole = pieces
                .into_iter()
                .flatten()
                .filter_map(|frame| frame.into_data().ok())
                .next();
            Full::new(whole.unwrap_or_default()).boxed()
        } else {
            BodyExt::boxed(http_body_util::StreamBody::new(tokio_stream::iter(pieces)))
        };
        let request = request.body(body).ok()?;
        let mut answer = Answer::default();
        let talk = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .map_err(|error| error.to_string())?;
            let _connection = tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(|error| told(&error))?;
            let (head, mut body) = response.into_parts();
            answer.status = head.status.as_u16();
            answer.headers = pairs(&head.headers);
            while let Some(frame) = body.frame().await {
                match frame.map_err(|error| told(&error))?.into_data() {
                    Ok(data) => answer.body.extend(data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                        answer.trailers = pairs(&trailers);
                    }
                }
                if self.enough.is_some_and(|enough| answer.body.len() >= enough) {
                    answer.left = true;
                    return Ok(());
                }
            }
            Ok::<(), String>(())
        };
        let ended = tokio::time::timeout(CALL_TIMEOUT, talk).await;
        answer.broken = match ended {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some("nothing more came".into()),
        };
        Some(answer)
    }
}

fn told(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Bytes as they come.
struct Input<'s, R> {
    stream: &'s mut R,
    buffer: Vec<u8>,
}

impl<R: AsyncReadExt + Unpin> Input<'_, R> {
    async fn more(&mut self) -> Result<(), String> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("the connection was closed".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more().await?;
        }
    }

    async fn fields(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("{line:?} is no header"))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// At most so many bytes, some at least.
    async fn some(&mut self, most: usize) -> Result<Vec<u8>, String> {
        if self.buffer.is_empty() {
            self.more().await?;
        }
        let end = most.min(self.buffer.len());
        Ok(self.buffer.drain(..end).collect())
    }
}

async fn read(
    stream: &mut (impl AsyncReadExt + Unpin),
    ask: &Ask,
    answer: &mut Answer,
) -> Result<(), String> {
    let mut input = Input {
        stream,
        buffer: Vec::new(),
    };
    loop {
        let line = input.line().await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        answer.status = status.ok_or_else(|| format!("{line:?} is no status line"))?;
        answer.headers = input.fields().await?;
        if answer.status >= 200 {
            break;
        }
    }
    if ask.method == "HEAD" || [204, 304].contains(&answer.status) {
        return Ok(());
    }
    let enough = |body: &[u8]| ask.enough.is_some_and(|enough| body.len() >= enough);
    if answer.all("transfer-encoding").contains(&"chunked") {
        loop {
            let line = input.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let mut left = usize::from_str_radix(size, 16).map_err(|_| format!("{line:?} is no chunk"))?;
            if left == 0 {
                answer.trailers = input.fields().await?;
                return Ok(());
            }
            while left > 0 {
                let some = input.some(left).await?;
                left -= some.len();
                answer.body.extend(some);
            }
            let _ = input.line().await?;
            if enough(&answer.body) {
                answer.left = true;
                return Ok(());
            }
        }
    }
    let length = answer
        .all("content-length")
        .first()
        .and_then(|length| length.parse::<usize>().ok());
    while length.is_none_or(|length| answer.body.len() < length) {
        match input.some(usize::MAX).await {
            Ok(some) => answer.body.extend(some),
            Err(_) if length.is_none() => return Ok(()),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}
