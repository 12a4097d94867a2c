//! The bench message as bytes: an order of about 1 KiB, ticks of 510 bytes, and gRPC frames around them.

use bytes::{BufMut, Bytes, BytesMut};

/// Answers with what was sent.
pub const ECHO: &str = "/bench.v1.Orders/EchoOrder";
/// Answers with an order.
pub const GET: &str = "/bench.v1.Orders/GetOrder";
/// Answers with ticks.
pub const WATCH: &str = "/bench.v1.Orders/WatchTicks";
/// Bytes of one tick, without its gRPC frame.
pub const TICK_BYTES: usize = 510;

/// The order, in protobuf.
#[must_use]
pub fn order() -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, "ord_01HZX4T9S6W2Q8R3");
    text(&mut out, 2, "cus_8842190037 Anna-Lena Öhlund");
    let mut address = Vec::new();
    text(&mut address, 1, "Anna-Lena Öhlund");
    text(&mut address, 2, "Storgatan 14, c/o Bergström, 3 tr");
    text(&mut address, 3, "Göteborg");
    text(&mut address, 4, "411 38");
    text(&mut address, 5, "SE");
    bytes(&mut out, 3, &address);
    for number in 0..9 {
        bytes(&mut out, 4, &line(number));
    }
    varint_field(&mut out, 5, 1_763_913_600_123);
    double(&mut out, 6, 612.35);
    text(&mut out, 7, "SEK");
    varint_field(&mut out, 8, 1);
    varint_field(&mut out, 9, 1);
    for (key, value) in [("channel", "mobile"), ("campaign", "autumn-2026")] {
        let mut entry = Vec::new();
        text(&mut entry, 1, key);
        text(&mut entry, 2, value);
        bytes(&mut out, 10, &entry);
    }
    text(
        &mut out,
        11,
        "Ring twice, please; leave with the neighbour if nobody is at home.",
    );
    out
}

/// A sparse order in protobuf, with as many lines as make about so many bytes of JSON; one hundred is the least.
#[must_use]
pub fn order_of(json_bytes: usize) -> Vec<u8> {
    /// What one line takes as JSON, and what all else does.
    const LINE_BYTES: usize = 116;
    const REST_BYTES: usize = 120;
    let mut out = Vec::new();
    text(&mut out, 1, "ord_01HZX4T9S6W2Q8R3");
    for number in 0..json_bytes.saturating_sub(REST_BYTES) / LINE_BYTES {
        bytes(&mut out, 4, &line((number % 9) as u8));
    }
    varint_field(&mut out, 5, 1_763_913_600_123);
    text(&mut out, 7, "SEK");
    varint_field(&mut out, 8, 1);
    varint_field(&mut out, 9, 1);
    out
}

/// One line of an order.
fn line(number: u8) -> Vec<u8> {
    let mut line = Vec::new();
    text(
        &mut line,
        1,
        &format!("SKU-{:05}-{number}", 10_417 * u32::from(number + 1) % 99_991),
    );
    text(
        &mut line,
        2,
        "Merino base layer, long sleeve, size M, \"forest\" green",
    );
    varint_field(&mut line, 3, u64::from(number % 3) + 1);
    double(&mut line, 4, 49.95 + f64::from(number));
    line
}

/// A tick of exactly [`TICK_BYTES`].
#[must_use]
pub fn tick() -> Vec<u8> {
    let mut out = Vec::new();
    varint_field(&mut out, 1, 1_000_001);
    let rest = TICK_BYTES - out.len() - 3;
    bytes(&mut out, 2, &vec![b'x'; rest]);
    out
}

/// A request for an order by its name.
#[must_use]
pub fn get_order() -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, "ord_01HZX4T9S6W2Q8R3");
    out
}

/// A request for so many ticks.
#[must_use]
pub fn watch_ticks(count: u32) -> Vec<u8> {
    let mut out = Vec::new();
    varint_field(&mut out, 1, u64::from(count));
    out
}

/// How many ticks a request asks for.
#[must_use]
pub fn ticks_asked(message: &[u8]) -> Option<u32> {
    let (tag, rest) = message.split_first()?;
    if *tag != 8 {
        return None;
    }
    let mut count = 0u32;
    for (position, byte) in rest.iter().enumerate().take(4) {
        count |= u32::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some(count);
        }
    }
    None
}

/// The gRPC frame around a message.
#[must_use]
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn text(out: &mut Vec<u8>, number: u64, value: &str) {
    bytes(out, number, value.as_bytes());
}

fn double(out: &mut Vec<u8>, number: u64, value: f64) {
    varint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_about_a_kibibyte_and_a_tick_is_as_long_as_it_says() {
        assert!((950..1_100).contains(&order().len()), "{}", order().len());
        assert_eq!(tick().len(), TICK_BYTES);
    }

    #[test]
    fn as_many_ticks_are_read_as_were_asked_for() {
        for count in [0, 1, 127, 128, 1_000, 100_000] {
            assert_eq!(ticks_asked(&watch_ticks(count)), Some(count));
        }
        assert_eq!(ticks_asked(b""), None);
        assert_eq!(ticks_asked(&[8, 0x80]), None);
    }
}
