//! The tour: one function a step, in the order they are walked. A step shows what it did and saw, and fails where
//! something it claims does not hold.

mod calls;
mod changes;
mod outages;

use std::future::Future;

use crate::client::Token;
use crate::mesh::Mesh;
use crate::show;

/// A step that did not hold.
pub(crate) struct Failed {
    pub(crate) number: usize,
    pub(crate) title: &'static str,
    pub(crate) why: String,
}

/// How many steps there are.
pub(crate) const STEPS: usize = 11;

/// Walks the whole tour, up to the first step that does not hold.
///
/// # Errors
/// That step.
pub(crate) async fn walk(mesh: &mut Mesh<'_>, token: &Token) -> Result<(), Failed> {
    step(
        1,
        "A JSON call with a good token crosses two sidecars",
        calls::good_token(mesh, token),
    )
    .await?;
    step(
        2,
        "Bad tokens are refused, and the service is never called",
        calls::bad_tokens(mesh),
    )
    .await?;
    step(
        3,
        "A service calls another over mTLS, and the callee sees who calls",
        calls::who_calls(mesh),
    )
    .await?;
    step(
        4,
        "What no policy allows is refused, with its reason",
        calls::forbidden(mesh, token),
    )
    .await?;
    step(
        5,
        "A policy changes, and changes back",
        changes::policy(mesh, token),
    )
    .await?;
    step(
        6,
        "A second and a third instance join and take their share",
        changes::joining(mesh, token),
    )
    .await?;
    step(
        7,
        "An instance is killed while calls go on",
        outages::instance_killed(mesh, token),
    )
    .await?;
    step(
        8,
        "xds-lite is killed while calls go on, and comes back",
        outages::xds_killed(mesh, token),
    )
    .await?;
    step(
        9,
        "A certificate is renewed while calls go on",
        changes::renewal(mesh, token),
    )
    .await?;
    step(
        10,
        "A stream of quotes, as lines of JSON",
        calls::stream(mesh, token),
    )
    .await?;
    step(STEPS, "The numbers all this left behind", calls::numbers(mesh)).await
}

async fn step(
    number: usize,
    title: &'static str,
    walk: impl Future<Output = Result<(), String>>,
) -> Result<(), Failed> {
    show::title(number, title);
    walk.await.map_err(|why| Failed { number, title, why })
}
