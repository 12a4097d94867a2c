//! Step 7, on: where a policy asks what a request says, its one message is read before the service hears of the call.

use std::future::poll_fn;
use std::pin::Pin;

use http::HeaderMap;
use http_body::Body;
use mesh_transcode::Options;
use mesh_transcode::frame::Decoder;

use crate::body::RequestBody;
use crate::call::Call;
use crate::gates::access::Conditions;
use crate::headers::GRPC_ENCODING;
use crate::reason::{Reason, Rejection};
use crate::translate::{Encoding, Framing};

/// Judges the message of a request as the service would get it, and gives the request back, whole.
///
/// # Errors
/// No policy allows it; it is not exactly one message, or one that cannot be read here; it does not come.
pub(super) async fn at(
    mut body: RequestBody,
    headers: &HeaderMap,
    conditions: Conditions,
    call: &mut Call,
) -> Result<RequestBody, Rejection> {
    let bytes_max = Options::default().limits.message_bytes;
    let bad_frame = |error| Framing::Grpc.bad_frame(&error);
    let mut decoder = Decoder::new(bytes_max);
    let mut message = None;
    while let Some(piece) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let piece = piece.map_err(|error| {
            let broken = Rejection::new(Reason::RequestMalformed, "the request's body broke off");
            let wrong = call.ticket.progress.refused();
            wrong.unwrap_or_else(|| broken.with_detail(error.to_string()))
        })?;
        let Ok(data) = piece.into_data() else { continue };
        decoder.push(data);
        while let Some(frame) = decoder.next().map_err(bad_frame)? {
            if message.replace(frame).is_some() {
                return Err(Framing::Grpc.second_message());
            }
        }
    }
    decoder.finish().map_err(bad_frame)?;
    let frame = message.ok_or_else(|| Framing::Grpc.no_message())?;
    // The one frame is all there is, and goes on as it came.
    let (first, then) = frame.clone().into_pieces().map_err(bad_frame)?;
    let encoding = Encoding::of(headers, &GRPC_ENCODING);
    let opened = encoding.open(frame, bytes_max);
    let message = opened.map_err(crate::translate::Unopened::of_request)?;
    call.policy = Some(conditions.judge(&message)?);
    Ok(RequestBody::Full(first, then))
}
