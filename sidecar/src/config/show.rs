//! The configuration in force, for operators. Paths of secrets may be shown; what is in them is not here.

use serde_json::{Value, json};

use super::{AccessLog, Config, Source};
use crate::gates::cors::Cors;

impl Config {
    /// As JSON, in the form of the file, with defaults and overrides filled in.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let locality = &self.node.locality;
        let mut shown = json!({
            "node": {
                "service": self.node.service.as_str(),
                "id": &*self.node.id,
                "address": &*self.node.address,
                "locality": {
                    "region": &*locality.region,
                    "zone": &*locality.zone,
                    "subZone": &*locality.sub_zone,
                },
            },
            "stateDir": self.state_dir,
            "inbound": self.inbound.as_ref().map(|inbound| json!({
                "listen": inbound.listen,
                "app": inbound.app,
                "plaintext": inbound.plaintext,
            })),
            "outbound": self.outbound.as_ref().map(|outbound| json!({"listen": outbound.listen})),
            "edge": self.edge.as_ref().map(|edge| json!({
                "listen": edge.listen,
                "tls": edge.tls.as_ref().map(|tls| json!({"certificate": tls.certificate, "key": tls.key})),
                "expose": edge.expose.iter().map(|exposed| json!({
                    "service": exposed.service.as_str(),
                    "prefix": exposed.prefix.as_deref(),
                })).collect::<Vec<_>>(),
                "openapi": edge.openapi.as_ref().map(|path| json!({"path": &**path})),
                "cors": edge.cors.as_ref().map(shown_cors),
            })),
            "dependencies": self.dependencies.iter().map(mesh_proto::name::ServiceName::as_str).collect::<Vec<_>>(),
            "admin": self.admin.map(|listen| json!({"listen": listen})),
            "metrics": self.metrics.map(|listen| json!({"listen": listen})),
            "tls": self.tls.as_ref().map(|tls| json!({
                "certificate": tls.certificate,
                "key": tls.key,
                "ca": tls.ca,
            })),
            "threads": self.threads,
            "accessLog": match self.access_log {
                AccessLog::Stdout => "stdout",
                AccessLog::Off => "off",
            },
            "drain": {
                "readinessOff": format!("{}ms", self.drain.readiness_off.as_millis()),
                "deadline": format!("{}ms", self.drain.deadline.as_millis()),
            },
        });
        match &self.source {
            Source::Control(control) => {
                shown["control"] = json!({
                    "servers": control.servers,
                    "ca": control.ca,
                    "joinToken": control.join_token.as_ref().map(|file| json!({"file": file})),
                    "trustDomain": control.trust_domain.as_str(),
                });
            }
            Source::Files(path) => shown["resources"] = json!({"file": path}),
            Source::Documents(_) => {}
        }
        if let Value::Object(entries) = &mut shown {
            entries.retain(|_, value| !value.is_null());
        }
        shown
    }
}

fn shown_cors(cors: &Cors) -> Value {
    let names = |names: &[http::HeaderName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "origins": cors.origins.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "headers": cors.headers.as_deref().map_or_else(|| vec!["*".to_owned()], names),
        "expose": names(&cors.expose),
        "credentials": cors.credentials,
        "maxAge": format!("{}ms", cors.max_age.as_millis()),
    })
}
