//! Schemas with many routes: the bench's own ones and as many generated ones as make up a number.
//!
//! ```text
//!  routes(10) ─► 3 of bench.v1.Orders and 7 of bench.v1.Routes, of four shapes that take turns:
//!      GET  /v1/things00000/{id}           POST /v1/things00000/{id}:apply
//!      GET  /v1/things00000/{id}/parts     GET  /v2/{id=areas/*/things00000/*}
//! ```

use std::fmt::Write as _;

/// Where the backend finds the generated methods.
pub const PREFIX: &str = "/bench.v1.Routes/";
/// Routes that `bench.v1.Orders` has by itself.
const OWN: usize = 3;
const SHAPES: usize = 4;

/// The source of a file that makes `routes` of them together with the orders it imports.
#[must_use]
pub fn proto(routes: usize) -> String {
    let mut text = String::from(
        "syntax = \"proto3\";\npackage bench.v1;\nimport \"google/api/annotations.proto\";\nimport \"bench/v1/orders.proto\";\nservice Routes {\n",
    );
    for number in 0..routes.saturating_sub(OWN) {
        let thing = thing(number);
        let rule = match number % SHAPES {
            0 => format!("get: \"/v1/{thing}/{{id}}\""),
            1 => format!("post: \"/v1/{thing}/{{id}}:apply\" body: \"*\""),
            2 => format!("get: \"/v1/{thing}/{{id}}/parts\""),
            _ => format!("get: \"/v2/{{id=areas/*/{thing}/*}}\""),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  rpc Call{number}(GetOrderRequest) returns (Order) {{ option (google.api.http) = {{{rule}}}; }}"
        );
    }
    text.push_str("}\n");
    text
}

/// A path of the last generated `GET` with one variable; as long, and with as many segments, for every number of routes.
#[must_use]
pub fn path(routes: usize) -> String {
    let last = routes.saturating_sub(OWN + 1);
    format!("/v1/{}/ord_01HZX4T9S6W2Q8R3", thing(last - last % SHAPES))
}

/// The name that the shapes of one turn share.
fn thing(number: usize) -> String {
    format!("things{:05}", number / SHAPES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_one_of_the_generated_ones_and_always_as_long() {
        for routes in [4, 10, 100, 1_000, 10_000] {
            let path = path(routes);
            let (collection, _) = path.rsplit_once('/').expect("it has a last segment");
            assert!(
                proto(routes).contains(&format!("get: \"{collection}/{{id}}\"")),
                "{path}"
            );
            assert_eq!(path.len(), "/v1/things00000/ord_01HZX4T9S6W2Q8R3".len());
            assert_eq!(proto(routes).matches("rpc ").count(), routes - OWN);
        }
    }
}
