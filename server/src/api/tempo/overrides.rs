//! What holds for a tenant, as Tempo's API of overrides tells it. `tempo` mounts it; nothing can be
//! changed through it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::{answer, respond_json, source};
use crate::api::prometheus::json::Object;
use crate::app::App;
use crate::config::limits_of_traces;
use crate::refusal::{Reason, Refusal};

/// The limits, with `scope=merged`; what a client changed, else: nothing.
pub(super) async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(app, request, |asked| {
        match asked.params.get("scope") {
            None | Some("api") => {
                let why = "no overrides were set through this API; scope=merged tells what holds";
                return Err(Refusal::new(Reason::NotFound, why));
            }
            Some("merged") => {}
            Some(other) => {
                let why = format!("unknown scope {other:?}, valid options are api and merged");
                return Err(Refusal::bad(why));
            }
        }
        let mut out = String::new();
        let mut object = Object::begin(&mut out);
        let mut limits = Object::begin(object.key("read"));
        for (name, value) in limits_of_traces(&source::limits(asked)) {
            limits.raw(name, value);
        }
        limits.end();
        object.end();
        Ok(respond_json(out))
    })
    .await
}
