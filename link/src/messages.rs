//! gRPC calls whose messages are bytes: for methods that are known by their descriptors only.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Calls `package.Service/Method` with a stream of messages, and gives back the stream of the answers. A method that takes
/// or gives one message is the same on the wire, with one message in the stream.
///
/// # Errors
/// The call ended before anything came, or could not be made.
pub async fn call<S>(
    channel: Channel,
    method: &str,
    request: Request<S>,
    bytes_max: usize,
) -> Result<Response<Streaming<Bytes>>, Status>
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let path = PathAndQuery::try_from(format!("/{method}")).map_err(|_| {
        Status::invalid_argument(format!("{method:?} is no method; write package.Service/Method"))
    })?;
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    client
        .ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    client.streaming(request, path, Untouched).await
}

/// What went wrong on the way, innermost cause first to be read; empty where the other side itself has answered.
#[must_use]
pub fn cause(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy)]
struct Untouched;

impl Codec for Untouched {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Untouched {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Untouched {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = message.remaining();
        Ok(Some(message.copy_to_bytes(length)))
    }
}
