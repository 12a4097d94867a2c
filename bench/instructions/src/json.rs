//! JSON to wire and back, ours and by the library that is our oracle.

use std::hint::black_box;
use std::sync::Arc;

use mesh_bench_kit::{message, routes};
use mesh_transcode::{Match, Options, Recognised, Router, Schema};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::repeat;

fn router(descriptors: &[u8]) -> Router<()> {
    let schema = Schema::compile(descriptors).expect("the descriptors are good");
    Router::build([((), Arc::new(schema))]).0
}

fn found(router: &Router<()>, method: &str, path: &str) -> Match<()> {
    match router.recognise(method, path) {
        Recognised::Found(found) => found,
        _ => panic!("{method} {path} is not recognised"),
    }
}

fn order(descriptors: &[u8]) -> MessageDescriptor {
    let pool = DescriptorPool::decode(descriptors).expect("the descriptors are good");
    pool.get_message_by_name("bench.v1.Order")
        .expect("the message is there")
}

/// An order as the oracle writes it.
fn order_json(descriptors: &[u8], wire: &[u8]) -> Vec<u8> {
    let message = DynamicMessage::decode(order(descriptors), wire).expect("the order is good");
    serde_json::to_vec(&message).expect("the order has a JSON form")
}

pub fn route_rest(descriptors: &[u8], times: usize) {
    let router = router(descriptors);
    repeat(times, || {
        found(&router, "GET", black_box("/v1/orders/ord_01HZX4T9S6W2Q8R3"))
    });
}

/// The same among so many generated ones.
pub fn route_rest_of(descriptors: &[u8], number: usize, times: usize) {
    let (router, path) = (router(descriptors), routes::path(number));
    repeat(times, || found(&router, "GET", black_box(&path)));
}

pub fn json_to_wire(descriptors: &[u8], times: usize) {
    read(descriptors, &message::order(), times);
}

pub fn wire_to_json(descriptors: &[u8], times: usize) {
    write(descriptors, &message::order(), times);
}

/// An order of about so many bytes of JSON.
pub fn json_to_wire_of(descriptors: &[u8], json_bytes: usize, times: usize) {
    read(descriptors, &message::order_of(json_bytes), times);
}

/// An order of about so many bytes of JSON.
pub fn wire_to_json_of(descriptors: &[u8], json_bytes: usize, times: usize) {
    write(descriptors, &message::order_of(json_bytes), times);
}

fn read(descriptors: &[u8], order: &[u8], times: usize) {
    let (router, options, json) = (
        router(descriptors),
        Options::default(),
        order_json(descriptors, order),
    );
    let echo = found(&router, "POST", "/v1/orders:echo");
    println!("{} bytes of JSON", json.len());
    repeat(times, || {
        let wire = echo.request("", Some("application/json"), black_box(&json), &options);
        assert!(wire.is_ok(), "the order can be read");
        wire
    });
}

fn write(descriptors: &[u8], order: &[u8], times: usize) {
    let (router, options) = (router(descriptors), Options::default());
    let echo = found(&router, "POST", "/v1/orders:echo");
    println!("{} bytes of JSON", order_json(descriptors, order).len());
    repeat(times, || {
        let json = echo.response(black_box(order), &options);
        assert!(json.is_ok(), "the order can be written");
        json
    });
}

pub fn json_to_wire_reflect(descriptors: &[u8], times: usize) {
    let (order, json) = (order(descriptors), order_json(descriptors, &message::order()));
    repeat(times, || {
        let mut reader = serde_json::Deserializer::from_slice(black_box(&json));
        let message = DynamicMessage::deserialize(order.clone(), &mut reader).expect("the order can be read");
        message.encode_to_vec()
    });
}

pub fn wire_to_json_reflect(descriptors: &[u8], times: usize) {
    let (order, wire) = (order(descriptors), message::order());
    repeat(times, || {
        let message =
            DynamicMessage::decode(order.clone(), black_box(wire.as_slice())).expect("the order is good");
        serde_json::to_vec(&message).expect("the order has a JSON form")
    });
}
